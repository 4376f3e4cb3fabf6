"""The trained weights and their copies: the policy, the old policy, the EMA; and how they get to disk and back.

base        the interface
lora        adapters in a frozen transformer
full        all weights of the transformer
checkpoint  writes and restores everything a run needs to resume
export      an adapter that other programs load at full strength
"""
