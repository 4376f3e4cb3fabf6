"""Tasks come in; `RolloutGroup`s of G candidate edits each, by the old policy, go out.

rollout  conditioning, noise, solver, decoding
"""
