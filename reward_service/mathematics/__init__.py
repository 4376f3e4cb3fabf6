"""Pure mathematics of scores: plain numbers in, plain numbers out.

expectation  label log-probabilities -> expected score, distribution, score mass
aggregation  several numbers in [0, 1] about one edit -> one
"""
