"""Edits images or exports weights, from a run directory or an adapter.

cli     `edit-r1 edit` and `edit-r1 export`
editor  a model with its trained weights
"""
