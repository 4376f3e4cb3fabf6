"""A run directory or an adapter comes in; edited images, or exported weights, go out.

cli     `edit-r1 edit` and `edit-r1 export`
editor  a model with its trained weights
"""
