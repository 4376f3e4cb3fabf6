"""Turns tasks into `RolloutGroup`s of candidate edits, made by the old policy.

units    which candidates are generated in one batch
rollout  conditioning, noise, solver, decoding
"""
