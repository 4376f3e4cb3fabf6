"""Pure mathematics of scores: functions of plain numbers.

expectation  label log-probabilities -> expected score, distribution, score mass
aggregation  several numbers in [0, 1] about one edit -> one
comparisons  pairs of candidates to compare, results of comparisons -> scores
"""
