"""Takes rollouts, advantages and the keep mask; updates the policy and returns its mean losses.

batching  which samples belong to which optimizer step and micro-batch
losses    DiffusionNFT and Flow-GRPO as losses of one micro-batch
update    forward, backward, gradient sum over processes, optimizer step
"""
