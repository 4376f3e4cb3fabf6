"""Trains a verifier: supervised on principle-by-principle traces, then on preferred versus rejected edits.

After arXiv:2604.27505 (Edit-RRM), whose code, weights and data are not public; docs/train-judge.md says what is known
from the paper's text and what is ours.
"""
