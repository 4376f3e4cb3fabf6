"""Turns tasks into `RolloutGroup`s of G candidate edits each, made by the old policy.

rollout  conditioning, noise, solver, decoding
"""
