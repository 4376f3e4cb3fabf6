"""The mathematics of the method: pure functions of tensors and numbers. Imports nothing else from Edit-R1 except
`types`.

sizes       the size an image is trained at
flow        the forward process: interpolation and velocities
solvers     from noise to data: DPM-Solver++, Euler, and the stochastic sampler of Flow-GRPO
advantage   rewards -> advantages -> optimality
filtering   which groups are dropped, and why
objectives  the losses
schedule    decay of the old policy and the EMA; number of trained timesteps
"""
