"""Candidate edits come in; their rewards go out, or a reason where one is missing.

reward_queue  groups in flight to the reward service, in a background thread
"""
