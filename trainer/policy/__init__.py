"""The trained weights and their copies (policy, old policy, EMA), and how they are saved and restored.

base               the interface
lora               adapters in a frozen transformer
full               all weights of the transformer
manifest           size and hash of a checkpoint's files, by which damage is detected
checkpoint         writes and restores everything a run needs to resume
transformer_files  all weights in diffusers' format, or in a checkpoint's shards
export             the trained weights, in a form that other programs load
"""
