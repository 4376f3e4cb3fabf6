"""Held-out tasks come in; images edited by the EMA weights (before training: by the reference), their rewards and
metrics go out.

metrics     metrics named in the configuration
evaluation  edits and scores the held-out tasks
"""
