"""The trainer: trains an image editor with DiffusionNFT on rewards obtained over HTTP.

Importing this package does not import torch; models are loaded by `train.run_training`.
"""
