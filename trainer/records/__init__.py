"""Writes and reads the files of a run. The report is built from these files alone.

metrics_log  metrics.jsonl, TensorBoard and trackers
records      evaluations and rollouts with their images
"""
