"""`edit-r1 doctor`: checks, estimates and advice for a configuration on a machine. No weights are loaded.

doctor     the checks, in order
needs      driver, memory, disk and time of a run: what is there, what is missing
judge      whether a judge fits the memory it gets, and on how many GPUs
planning   sizes of a model and a run, the inputs of the estimates
estimates  memory, disk and arithmetic; pure
machine    what this machine has: driver, memory, disk
"""
