"""The losses, with equation numbers: take velocities and advantages, return per-sample terms.

nft        DiffusionNFT (Eq. 4-6)
flow_grpo  Flow-GRPO, the baseline of Figure 7
"""
