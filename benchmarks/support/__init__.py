"""Code shared by several benchmarks.

figures     the blocks of figures in a document
workload    images to score, and the process that sends them
judges      judges with random weights
reference   a reward server as research code builds it, for comparison
real_sizes  FLUX.1-Kontext at full size, without its weights
training    a training step of FLUX.1-Kontext with random weights
stages      seconds and peak GPU memory by stage
"""
