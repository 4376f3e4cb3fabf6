"""The losses, with equation numbers. Velocities and advantages in, per-sample terms out.

nft        DiffusionNFT (Eq. 4-6)
flow_grpo  Flow-GRPO, the baseline of Figure 7
"""
