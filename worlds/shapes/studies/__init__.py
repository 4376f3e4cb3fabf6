"""Studies on the shapes world: how reliable a judge's scores are, with the oracle as the annotator.

edit_sets    held-out edits with their oracle and scores
judge_table  agreement of every method with the oracle
preferences  `make align`
verifier     a verifier trained on traces and preferences
"""
