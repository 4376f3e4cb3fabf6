"""The trainer: an image editor learns, by DiffusionNFT, from rewards that come over HTTP.

Importing this package imports no torch; `train.run_training` is where the models come in.
"""
