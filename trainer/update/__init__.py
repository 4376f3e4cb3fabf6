"""Rollouts, advantages and the keep mask come in; a changed policy and the means of its losses go out.

batching  which samples belong to which optimizer step and micro-batch
losses    DiffusionNFT and Flow-GRPO as losses of one micro-batch
update    forward, backward, gradient sum over processes, optimizer step
"""
