"""Evaluation of editors: held-out tasks during training, public benchmarks, pairwise comparison of two editors."""
