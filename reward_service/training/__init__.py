"""Training a verifier: supervised on principle-by-principle traces, then on preferred against rejected edits.

After arXiv:2604.27505 (Edit-RRM), of which neither code nor weights nor data are public; docs/train-judge.md says what
of it is known from the paper's text and what is ours.
"""
