"""Selects the editor to evaluate: a run, a checkpoint, or any pipeline; as trained, with another adapter, or untrained.

Turns command-line options into a Subject: configuration, trained weights, and an identity that distinguishes its images
from those of other editors. No weights are loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from edit_r1.shared.config import load_config
from edit_r1.shared.errors import CheckpointError, ConfigError
from edit_r1.trainer.config import CHECKPOINTS_NAME, CONFIG_NAME, TrainConfig
from edit_r1.trainer.machine import bundled_files
from edit_r1.trainer.models import family_of_pipeline
from edit_r1.trainer.policy.export import WEIGHTS_NAME
from edit_r1.trainer.policy.full import FullPolicy
from edit_r1.trainer.policy.manifest import damage
from edit_r1.trainer.policy.transformer_files import weights_in
from edit_r1.trainer.run.true_cfg import check_true_cfg, evaluation_true_cfg
from edit_r1.workbench.editing.editor import WeightsName, find_weights
from edit_r1.workbench.editing.sampling import sampling_overrides

# Benchmarks have images of all aspect ratios; even a run trained at one size need not distort them.
_KEEP_SHAPES = "model.aspect=buckets"
_SAMPLE_BYTES = 2**20


@dataclass(frozen=True)
class Subject:
    """An editor and its settings."""

    config: TrainConfig
    weights: Path | None
    """Directory of the trained weights; None for the model before training."""
    identity: Mapping[str, Any]
    """Everything its images depend on, except item and seed."""


def find_subject(
    model: str,
    *,
    adapter: Path | None,
    base: bool,
    weights: WeightsName,
    step: int | None,
    sampling: str,
    overrides: Sequence[str],
) -> Subject:
    """Resolve a run directory, a checkpoint step-N, or a diffusers pipeline (directory or Hub name).

    adapter: trained weights that replace those of the run. base: no trained weights. sampling: configured or published.
    overrides: dotted.key=value, which take precedence over `sampling`. Raises ConfigError or CheckpointError.
    """
    path = Path(model)
    is_run = (path / CONFIG_NAME).is_file()
    form = [_KEEP_SHAPES] if is_run else _form_of_pipeline(model, overrides)
    # Which settings are published depends only on the model; other overrides may presuppose these settings.
    of_model = [one for one in overrides if one.startswith("model.")]
    settings = sampling_overrides(_config(path, form, of_model), sampling)
    config = _config(path, [*form, *settings], overrides)
    check_true_cfg(config)
    trained = _trained(path, weights, step) if is_run and not base and adapter is None else None
    if adapter is not None:
        trained = adapter
        _weights_files(adapter)
    return Subject(config, trained, _identity(config, trained))


def _trained(path: Path, weights: WeightsName, step: int | None) -> Path:
    if (path / CHECKPOINTS_NAME).is_dir() or not (path / "manifest.json").is_file():
        return find_weights(path, weights, step)
    if fault := damage(path):
        raise CheckpointError(f"{path}: {fault}")
    return path / weights


def _config(path: Path, form: Sequence[str], overrides: Sequence[str]) -> TrainConfig:
    """The configuration of a run, or one made from the overrides alone."""
    file = path / CONFIG_NAME
    return load_config(TrainConfig, file if file.is_file() else None, [*form, *overrides])


def _form_of_pipeline(model: str, overrides: Sequence[str]) -> list[str]:
    """Overrides for a pipeline. Evaluation uses `model` and the sampling; the rest are required placeholders."""
    family = [] if any(one.startswith("model.family=") for one in overrides) else [f"model.family={_family_of(model)}"]
    return ["run_dir=.", "data.train=none", _KEEP_SHAPES, f"model.path={json.dumps(model)}", *family]


def _family_of(model: str) -> str:
    try:
        name = DiffusionPipeline.load_config(bundled_files.find(model))["_class_name"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"--model {model} is not a run directory ({CONFIG_NAME}), a checkpoint or a diffusers pipeline: "
            f"{str(error).splitlines()[0]}"
        ) from error
    family = family_of_pipeline(name)
    if family is None:
        raise ConfigError(f"--model {model} is a {name}; set its family: model.family=package.module:Class")
    return family


def _identity(config: TrainConfig, weights: Path | None) -> dict[str, Any]:
    model = config.model
    settings: dict[str, Any] = {
        "family": model.family,
        "size": [model.width, model.height],
        "aspect": [model.aspect, model.max_aspect],
        "precision": model.precision,
        "quantization": model.quantization,
        "max_text_tokens": model.max_text_tokens,
        "guidance": config.rollout.guidance,
        "steps": config.evaluation.steps,
    }
    # Without guidance the identity is the same as before there was any, so that earlier images are reused.
    if true_cfg := evaluation_true_cfg(config):
        settings["true_cfg"] = asdict(true_cfg)
    adapter = None if weights is None else _digest(_weights_files(weights), whole=True)
    digest = _model_digest(model.location)
    name = model.path if digest is None else Path(model.location).resolve().name
    return {"model": name, "model_digest": digest, "adapter": adapter, "settings": settings}


def _weights_files(directory: Path) -> list[Path]:
    adapter = directory / WEIGHTS_NAME
    found = [adapter] if adapter.is_file() else weights_in(directory)
    if not found:
        raise CheckpointError(
            f"{directory} contains no trained weights: no {WEIGHTS_NAME} or {FullPolicy.weights_name}"
        )
    return found


def _model_digest(path: str) -> str | None:
    """None for a Hub name, whose contents are not local."""
    files = sorted(one for one in Path(path).rglob("*") if one.is_file())
    return _digest(files, whole=False) if files else None


def _digest(files: Iterable[Path], *, whole: bool) -> str:
    """Digest of names and contents; unless `whole`, only of size, first and last MiB, which any training changes."""
    found = hashlib.blake2b(digest_size=16)
    for path in files:
        size = path.stat().st_size
        found.update(f"{path.name}/{size}/".encode())
        with path.open("rb") as file:
            if whole or size <= 2 * _SAMPLE_BYTES:
                while block := file.read(_SAMPLE_BYTES):
                    found.update(block)
            else:
                found.update(file.read(_SAMPLE_BYTES))
                file.seek(-_SAMPLE_BYTES, 2)
                found.update(file.read(_SAMPLE_BYTES))
    return found.hexdigest()
