"""Resource estimates of a run: bytes on one GPU by component, and operations per epoch. Pure.

Estimates follow from the sizes of the model and the run. Weights and optimizer are counted; activations are estimated
from what blocks of such transformers keep (tests compare this with the actual amount, to within a quarter).
Legend: a row is one latent at one timestep; S tokens per row, h width of the transformer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_KEPT_PER_BLOCK = 15.0
"""Values a block keeps for its backward pass, in units of S h: inputs of its matrices, norms and activations."""
_FLOAT32 = 4
_CONTEXT_BYTES = 2e9
"""CUDA context, kernels and allocator overhead."""
_HOST_PROCESS_BYTES = 4e9
"""Main memory of a process without any weights: interpreter, libraries, CUDA's host side."""

_SHARD_WRITER_BYTES = 1e9
"""Main memory that writing shards takes: up to three copies of one file's contents (`machine.shard_files`)."""

_JUDGE_WORKSPACE_BYTES = 4e9
"""What vLLM sets aside beside weights and cache for 8192 tokens per step and images of one megapixel. Assumed."""


@dataclass(frozen=True)
class ModelShape:
    """Sizes of an editor, in parameters unless noted."""

    transformer: int
    """Parameters of the whole transformer."""
    shared_weights: int
    """Parameters of the blocks' matrices applied to every token."""
    image_weights: int
    """Parameters of the matrices applied to image tokens only."""
    text_weights: int
    """Parameters of the matrices applied to text tokens only."""
    largest_block: int
    """Parameters of the largest block, which a sharded forward pass gathers at once."""
    num_blocks: int
    width: int
    """h, the hidden size."""
    text_encoders: int
    vae: int
    decoder_numbers: int
    """Values alive per pixel while the VAE decodes; see `ModelFamily.decoder_numbers`."""
    encoder_numbers: int
    adapter: int
    """Parameters of one adapter; 0 where all weights are trained."""


@dataclass(frozen=True)
class Plan:
    """Sizes of a run, per GPU unless noted."""

    num_gpus: int
    gpus_per_node: int
    bytes_per_weight: float
    """Bytes per weight of the frozen transformer and text encoders."""
    compute_bytes: int
    """Bytes per activation value."""
    full: bool
    """Whether all weights are trained."""
    sharded: bool
    offloads_text: bool
    checkpoints: bool
    """Whether gradient checkpointing is on."""
    image_tokens: int
    """Tokens of the edit and its sources, per row."""
    text_tokens: int
    decoded_pixels: int
    """Pixels of the edits decoded at once."""
    encoded_pixels: int
    """Pixels of the sources encoded at once."""
    generated_rows: int
    """Rows generated at once, in a rollout or an evaluation; a negative branch has rows of its own."""
    update_rows: int
    """Rows in one forward and backward pass."""
    groups: int
    """Groups per epoch, over all GPUs."""
    group_size: int
    rollout_steps: int
    rollout_branches: int
    """Rows per candidate and step of a rollout: 2 with true classifier-free guidance, otherwise 1."""
    trained_timesteps: int
    forwards_without_gradient: int
    """Forward passes of old policy and reference for each forward pass with gradient."""
    judge_bytes: float = 0.0
    """Memory of each GPU that a judge takes."""


@dataclass(frozen=True)
class JudgeShape:
    """Sizes of a judge that vLLM serves."""

    parameters: int
    num_blocks: int
    """Blocks of the language model, each with a key-value cache."""
    heads: int
    """Attention heads, which tensor parallelism divides evenly."""
    kv_heads: int
    head_size: int


def judge_memory(shape: JudgeShape, cached_tokens: int, tensor_parallel: int) -> Mapping[str, float]:
    """Bytes that a judge in 16 bits needs on each of its GPUs at least, by component.

    vLLM refuses to start with less, and fills the rest of its share with more cache.
    """
    heads = max(1, shape.kv_heads // tensor_parallel)  # with more GPUs than heads, vLLM copies them
    return {
        "weights": 2.0 * shape.parameters / tensor_parallel,
        "cache": 2.0 * 2.0 * shape.num_blocks * heads * shape.head_size * cached_tokens,
        "activations and CUDA graphs": _JUDGE_WORKSPACE_BYTES,
    }


def memory(shape: ModelShape, plan: Plan) -> Mapping[str, float]:
    """Bytes on one GPU by component; generation, VAE and update take turns, so only the largest of them counts."""
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
        "generation": _alive(shape, plan, plan.generated_rows),
        "source encoding": float(plan.encoded_pixels * shape.encoder_numbers * _FLOAT32),
        "decoding": float(plan.decoded_pixels * shape.decoder_numbers * _FLOAT32),
        "text encoding": shape.text_encoders * plan.bytes_per_weight if plan.offloads_text else 0.0,
        "update": kept_for_backward(shape, plan),
    }
    largest = max(turns, key=lambda name: turns[name])
    parts[f"activations (most in {largest})"] = turns[largest]
    parts["libraries and allocator"] = _CONTEXT_BYTES
    parts["judge on the same GPU"] = plan.judge_bytes
    return parts


def host_memory(shape: ModelShape, plan: Plan) -> Mapping[str, float]:
    """Bytes of a node's main memory by stage.

    Unsharded, every process loads all weights before it moves them. Sharded, it reads its shard of the transformer; the
    text encoders, as published in bfloat16, are mapped from files that the processes share.
    """
    number, share = plan.gpus_per_node, plan.num_gpus if plan.sharded else 1
    text = float(shape.text_encoders * plan.compute_bytes)
    mapped = plan.sharded and plan.compute_bytes < _FLOAT32
    transformer = shape.transformer * (_FLOAT32 if plan.full else plan.compute_bytes) / share
    own = _HOST_PROCESS_BYTES + transformer + shape.vae * _FLOAT32 + (0.0 if mapped else text)
    # The main process collects both moments of AdamW before it writes them; sharded ones are written file by file.
    sharded_moments = plan.sharded and plan.full
    moments = 2.0 * _FLOAT32 * (shape.transformer if plan.full else shape.adapter)
    resting = _HOST_PROCESS_BYTES + (text if plan.offloads_text else 0.0)
    return {
        "loading": number * own + (text if mapped else 0.0),
        "training": number * (resting + _SHARD_WRITER_BYTES) if sharded_moments else number * resting + moments,
    }


def checkpoint_bytes(shape: ModelShape, plan: Plan) -> float:
    """Bytes of one checkpoint: policy, old, EMA and AdamW's two moments, in float32."""
    return 5.0 * _FLOAT32 * (shape.transformer if plan.full else shape.adapter)


def kept_for_backward(shape: ModelShape, plan: Plan) -> float:
    """Bytes of activations kept by one forward pass of `update_rows` rows."""
    one_block = _alive(shape, plan, plan.update_rows)
    if not plan.checkpoints:
        return shape.num_blocks * one_block
    tokens = plan.image_tokens + plan.text_tokens
    return plan.update_rows * tokens * shape.width * plan.compute_bytes * shape.num_blocks + one_block


def forward_flops(shape: ModelShape, plan: Plan) -> float:
    """Operations of one row's forward pass; a multiply-add counts as two."""
    tokens = plan.image_tokens + plan.text_tokens
    linear = (
        shape.shared_weights * tokens + shape.image_weights * plan.image_tokens + shape.text_weights * plan.text_tokens
    )
    return 2.0 * linear + _attention_flops(shape, tokens)


def epoch_flops(shape: ModelShape, plan: Plan) -> Mapping[str, float]:
    """Operations of an epoch over all GPUs, rollout and update; encoding and decoding are negligible."""
    forward = forward_flops(shape, plan)
    attention = _attention_flops(shape, plan.image_tokens + plan.text_tokens)
    # Activation gradients cost as much as the forward pass (attention twice), weight gradients as much again.
    backward = forward + attention + (forward - attention if plan.full else 0.0)
    passes = (plan.forwards_without_gradient + 1 + plan.checkpoints) * forward + backward
    candidates = plan.groups * plan.group_size
    return {
        "rollout": candidates * plan.rollout_steps * plan.rollout_branches * forward,
        "update": candidates * plan.trained_timesteps * passes,
    }


@dataclass(frozen=True)
class RewardLoad:
    """Scoring time of an epoch and the time in which scoring can be hidden."""

    candidates: int
    scoring_seconds: float
    free_seconds: float

    @property
    def share(self) -> float:
        """Fraction of the service's time in use; above 1 the trainer waits and needs that many times the capacity."""
        return self.scoring_seconds / self.free_seconds if self.free_seconds else math.inf


def load_of_rewards(candidates: int, scores_per_second: float, free_seconds: float) -> RewardLoad:
    """free_seconds: time per epoch that overlaps with scoring: the rollout; with staleness the update too."""
    return RewardLoad(candidates, candidates / scores_per_second, free_seconds)


def _attention_flops(shape: ModelShape, tokens: int) -> float:
    return 4.0 * tokens * tokens * shape.width * shape.num_blocks


def _alive(shape: ModelShape, plan: Plan, rows: int) -> float:
    tokens = plan.image_tokens + plan.text_tokens
    return rows * tokens * shape.width * _KEPT_PER_BLOCK * plan.compute_bytes
