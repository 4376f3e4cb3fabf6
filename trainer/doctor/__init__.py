"""`edit-r1 doctor`: checks, estimates and advice for a configuration on a machine. No weights are loaded.

doctor     the checks, in order
planning   sizes of a model and a run, the inputs of the estimates
estimates  memory and arithmetic; pure
"""
