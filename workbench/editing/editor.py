"""Inference with a trained editor, the same way as in evaluation; and export of its weights.

Takes a run directory, images and an instruction and returns the edited image; or writes the whole pipeline with the
trained weights merged in.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from edit_r1.shared.config import load_config
from edit_r1.shared.errors import CheckpointError
from edit_r1.trainer.config import CHECKPOINTS_NAME, CONFIG_NAME, TrainConfig
from edit_r1.trainer.held_out.evaluation import edit_by_euler
from edit_r1.trainer.models.base import ModelFamily
from edit_r1.trainer.policy.checkpoint import newest_whole
from edit_r1.trainer.policy.export import PREFIX, WEIGHTS_NAME, read_adapter, read_folded, write_folded
from edit_r1.trainer.policy.manifest import damage
from edit_r1.trainer.policy.transformer_files import consolidate, load_weights, weights_in
from edit_r1.trainer.run.components import cut_instructions, load_family, whole_image_size
from edit_r1.trainer.run.true_cfg import evaluation_true_cfg
from edit_r1.trainer.tasks.task_list import resized

WeightsName = Literal["policy", "old", "ema"]


def find_weights(run_dir: Path, weights: WeightsName, step: int | None) -> Path:
    """The directory of trained weights in a checkpoint, by default the newest complete one.

    Raises CheckpointError when there is none or it is damaged.
    """
    directory = run_dir / CHECKPOINTS_NAME
    if step is not None:
        found = directory / f"step-{step}"
        if fault := damage(found):
            raise CheckpointError(f"{found}: {fault}")
        return found / weights
    newest = newest_whole(directory, lambda _: None)
    if newest is None:
        raise CheckpointError(f"no complete checkpoint in {directory}")
    return newest / weights


def export(run_dir: Path, weights: Path, out: Path) -> Path:
    """Write an adapter as one file of full strength at scale 1, or a fully tuned transformer in diffusers' format."""
    if run_config(run_dir).tuning == "full":
        consolidate(weights, out)
        return out
    return write_folded(read_folded(weights / WEIGHTS_NAME), out)


def export_merged(run_dir: Path, weights: Path, out: Path) -> Path:
    """Write the whole pipeline with the trained weights merged in; returns `out`."""
    config = run_config(run_dir)
    try:
        pipeline = DiffusionPipeline.from_pretrained(config.model.location)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"--merged needs a diffusers pipeline at {config.model.path}: {error}") from error
    if config.tuning == "full":
        load_weights(pipeline.transformer, weights_in(weights))
    else:
        pipeline.load_lora_weights(weights)
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    pipeline.save_pretrained(out)
    return out


class Editor:
    """A configuration's model with trained weights, or the reference model without them.

    weights: a directory with an adapter or with all transformer weights; None for the reference.
    """

    def __init__(self, config: TrainConfig, weights: Path | None) -> None:
        self._config = config
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.family: ModelFamily = load_family(self._config, device)
        self._choose_size = whole_image_size(self._config, self.family)
        transformer: Any = self.family.transformer  # diffusers ships no types
        if weights is not None and (files := weights_in(weights)):
            load_weights(transformer, files)
        elif weights is not None:
            transformer.load_lora_adapter(read_adapter(weights / WEIGHTS_NAME), prefix=PREFIX.removesuffix("."))

    def cut_instructions(self, instructions: Collection[str]) -> str | None:
        """A warning about instructions that the text encoder will truncate; None when there are none."""
        return cut_instructions(self.family, instructions)

    def edit(self, sources: Sequence[Image.Image], instruction: str, *, seed: int = 0) -> Image.Image:
        """Make one edit as in evaluation (Euler steps, guidance); a seed gives the same noise as in diffusers.

        Nothing is cut off the sources, even if training crops: the edit has the shape nearest to the first source's.
        """
        images = [resized(source, self._choose_size) for source in sources]
        edits = edit_by_euler(
            self.family,
            [instruction],
            [images],
            [torch.Generator().manual_seed(seed)],
            num_steps=self._config.evaluation.steps,
            true_cfg=evaluation_true_cfg(self._config),
        )
        return edits[0]


def run_config(run_dir: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The resolved configuration of a run, with `dotted.key=value` overrides.

    Raises CheckpointError when the directory contains no run, and ConfigError.
    """
    path = run_dir / CONFIG_NAME
    if not path.is_file():
        raise CheckpointError(f"{run_dir} contains no run: it has no {CONFIG_NAME}")
    return load_config(TrainConfig, path, overrides)
