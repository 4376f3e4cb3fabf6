"""Gets the rewards of candidate edits, with a reason for each missing one.

reward_queue  groups in flight to the reward service, in a background thread
"""
