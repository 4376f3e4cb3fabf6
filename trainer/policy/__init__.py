"""The trained weights and their copies: the policy, the old policy, the EMA; and how they get to disk and back.

base        the interface
lora        adapters in a frozen transformer
full        all weights of the transformer
checkpoint  writes and restores everything a run needs to resume
export      the trained weights, in a form that other programs load
"""
