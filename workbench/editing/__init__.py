"""Edits images or exports weights, from a run directory or an adapter.

cli       `edit-r1 edit` and `edit-r1 export`
sampling  how an editor samples: published settings and options
editor    a model with its trained weights
"""
