"""The trained weights and their copies (policy, old policy, EMA), and how they are saved and restored.

base        the interface
lora        adapters in a frozen transformer
full        all weights of the transformer
checkpoint  writes and restores everything a run needs to resume
export      the trained weights, in a form that other programs load
"""
