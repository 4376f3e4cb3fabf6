"""What a run will need: bytes on one GPU by component, and arithmetic of an epoch. Pure.

Enters: the sizes of a model and of a run. Leaves: estimates; weights and optimizer are counted, activations are
estimated from what the blocks of such transformers keep (tests compare with what is really kept, within a quarter).
Legend: a row is one latent at one timestep; S tokens a row, h width of the transformer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_KEPT_PER_BLOCK = 15.0
"""Numbers that a block keeps for its backward pass, in units of S h: inputs of its matrices, norms and activations."""
_FLOAT32 = 4
_DECODER_NUMBERS = 400.0
"""Numbers alive a pixel while a VAE decodes: a few feature maps of about 128 channels at full size."""
_CONTEXT_BYTES = 2e9
"""CUDA context, kernels and what allocators lose."""


@dataclass(frozen=True)
class ModelShape:
    """Sizes of an editor."""

    transformer: int
    """Parameters."""
    shared_weights: int
    """Parameters of the blocks' matrices that see every token."""
    image_weights: int
    """Those that see image tokens only."""
    text_weights: int
    """Those that see text tokens only."""
    largest_block: int
    """Parameters of the largest block: what a sharded forward gathers at once."""
    num_blocks: int
    width: int
    """h."""
    text_encoders: int
    vae: int
    adapter: int
    """Parameters of one adapter; 0 where all weights are trained."""


@dataclass(frozen=True)
class Plan:
    """Sizes of a run, on one GPU where not said otherwise."""

    num_gpus: int
    bytes_per_weight: float
    """Of the frozen transformer and text encoders."""
    compute_bytes: int
    """Of an activation."""
    full: bool
    """All weights are trained."""
    sharded: bool
    offloads_text: bool
    checkpoints: bool
    """Gradient checkpointing."""
    image_tokens: int
    """Of the edit and its sources, a row."""
    text_tokens: int
    pixels: int
    """Of an edit."""
    rollout_rows: int
    """Rows generated at once."""
    update_rows: int
    """Rows in one forward and backward pass."""
    groups: int
    """Groups of an epoch, over all GPUs."""
    group_size: int
    rollout_steps: int
    trained_timesteps: int
    forwards_without_gradient: int
    """Of the old policy and the reference, for each forward with gradient."""


def memory(shape: ModelShape, plan: Plan) -> Mapping[str, float]:
    """Bytes on one GPU by component. They do not all peak together: rollout, decoding and update take turns."""
    share = plan.num_gpus if plan.sharded else 1
    parts = {
        "transformer": shape.transformer * (_FLOAT32 if plan.full else plan.bytes_per_weight) / share,
        "text encoders": 0.0 if plan.offloads_text else shape.text_encoders * plan.bytes_per_weight / share,
        "VAE (float32)": float(shape.vae * _FLOAT32),
    }
    if plan.full:
        parts["old, EMA and reference copies"] = 3.0 * _FLOAT32 * shape.transformer / share
        parts["gradients and AdamW"] = 3.0 * _FLOAT32 * shape.transformer / share
    else:
        parts["adapters: policy, old, EMA"] = 3.0 * _FLOAT32 * shape.adapter
        parts["gradients and AdamW"] = 3.0 * _FLOAT32 * shape.adapter
    if plan.sharded:
        parts["layers gathered for a forward"] = 2.0 * shape.largest_block * plan.compute_bytes
    turns = {
        "rollout": _alive(shape, plan, plan.rollout_rows),
        "decoding": plan.rollout_rows * plan.pixels * _DECODER_NUMBERS * _FLOAT32,
        "text encoding": shape.text_encoders * plan.bytes_per_weight if plan.offloads_text else 0.0,
        "update": kept_for_backward(shape, plan),
    }
    largest = max(turns, key=lambda name: turns[name])
    parts[f"activations (most in {largest})"] = turns[largest]
    parts["libraries and allocator"] = _CONTEXT_BYTES
    return parts


def kept_for_backward(shape: ModelShape, plan: Plan) -> float:
    """Bytes of activations that one forward of `update_rows` rows keeps."""
    one_block = _alive(shape, plan, plan.update_rows)
    if not plan.checkpoints:
        return shape.num_blocks * one_block
    tokens = plan.image_tokens + plan.text_tokens
    return plan.update_rows * tokens * shape.width * plan.compute_bytes * shape.num_blocks + one_block


def forward_flops(shape: ModelShape, plan: Plan) -> float:
    """Operations of one row's forward; two a multiply-add."""
    tokens = plan.image_tokens + plan.text_tokens
    linear = (
        shape.shared_weights * tokens + shape.image_weights * plan.image_tokens + shape.text_weights * plan.text_tokens
    )
    return 2.0 * linear + _attention_flops(shape, tokens)


def epoch_flops(shape: ModelShape, plan: Plan) -> Mapping[str, float]:
    """Operations of an epoch over all GPUs: rollout and update; encoding and decoding are small beside them."""
    forward = forward_flops(shape, plan)
    attention = _attention_flops(shape, plan.image_tokens + plan.text_tokens)
    # Gradients of activations cost what the forward does (attention twice), those of weights as much again.
    backward = forward + attention + (forward - attention if plan.full else 0.0)
    passes = (plan.forwards_without_gradient + 1 + plan.checkpoints) * forward + backward
    candidates = plan.groups * plan.group_size
    return {
        "rollout": candidates * plan.rollout_steps * forward,
        "update": candidates * plan.trained_timesteps * passes,
    }


@dataclass(frozen=True)
class RewardLoad:
    """An epoch's scoring beside the time in which nobody waits for it."""

    candidates: int
    scoring_seconds: float
    free_seconds: float

    @property
    def share(self) -> float:
        """Of the service's time that is taken; above 1 the trainer waits, and needs that many times the service."""
        return self.scoring_seconds / self.free_seconds if self.free_seconds else math.inf


def load_of_rewards(candidates: int, scores_per_second: float, free_seconds: float) -> RewardLoad:
    """free_seconds: of an epoch, while scores come in: its rollout; with staleness its update too."""
    return RewardLoad(candidates, candidates / scores_per_second, free_seconds)


def _attention_flops(shape: ModelShape, tokens: int) -> float:
    return 4.0 * tokens * tokens * shape.width * shape.num_blocks


def _alive(shape: ModelShape, plan: Plan, rows: int) -> float:
    tokens = plan.image_tokens + plan.text_tokens
    return rows * tokens * shape.width * _KEPT_PER_BLOCK * plan.compute_bytes
