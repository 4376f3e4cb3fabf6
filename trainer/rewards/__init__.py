"""Gets the rewards of candidate edits, with a reason for each missing one.

terms         the rewards of a run, and how several make one
reward_queue  groups in flight to the reward services, in a background thread
"""
