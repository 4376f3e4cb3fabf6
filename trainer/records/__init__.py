"""What a run leaves on disk, and how it is read back. The report is made from these files alone.

metrics_log  metrics.jsonl, TensorBoard and trackers
records      evaluations and rollouts with their images
"""
