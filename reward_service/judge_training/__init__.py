"""`edit-r1 train-judge`: trains a LoRA adapter for a verifier from traces and preferences.

cli    the command
data   traces and pairs of edits
train  the two stages: supervised, then group-contrastive preference
judge  a judge with gradients in its adapter
gcpo   the preference loss; pure
"""
