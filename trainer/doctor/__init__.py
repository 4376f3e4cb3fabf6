"""`edit-r1 doctor`: a configuration and a machine come in; checks, estimates and advice go out. No weights are loaded.

doctor     the checks, in order
planning   sizes of a model and a run, from which estimates are made
estimates  memory and arithmetic; pure
"""
