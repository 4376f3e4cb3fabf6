"""Evaluation: edits held-out tasks with the EMA weights and returns the images with their rewards and metrics.

metrics     metrics named in the configuration
evaluation  edits and scores the held-out tasks
"""
