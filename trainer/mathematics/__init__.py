"""The mathematics of the method: pure functions of tensors and numbers. Imports nothing of ours from outside this
folder.

sizes       the size an image is trained at
dealing     the parts of a group, for several processes
flow        the forward process: interpolation and velocities
guidance    classifier-free guidance: combines a positive and a negative velocity
solvers     from noise to data: DPM-Solver++, Euler, and the stochastic sampler of Flow-GRPO
filtering   which groups are dropped, and why
advantage   rewards -> advantages -> optimality
objectives  the losses
schedule    decay of the old policy and the EMA; number of trained timesteps
alarms      indicators of reward hacking, and alarms on them
"""
