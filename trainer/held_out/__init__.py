"""Evaluation during training: edits held-out tasks with the EMA weights (before training: the reference), scores and
measures them.

metrics     metrics named in the configuration
evaluation  edits and scores the held-out tasks
"""
