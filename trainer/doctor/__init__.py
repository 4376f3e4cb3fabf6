"""`edit-r1 doctor`: a configuration and a machine come in; checks, estimates and advice go out. No weights are loaded.

doctor     the checks, in order
needs      driver, memory, disk and time of a run: what is there, what is missing
planning   sizes of a model and a run, from which estimates are made
estimates  memory, disk and arithmetic; pure
machine    what this machine has: driver, memory, disk
"""
