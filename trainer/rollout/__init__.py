"""Turns tasks into `RolloutGroup`s of candidate edits, made by the old policy.

units     which candidates are generated in one batch
velocity  the velocity that candidates are sampled with: one branch or two
rollout   conditioning, noise, solver, decoding
"""
