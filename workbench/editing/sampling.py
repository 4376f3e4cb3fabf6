"""How an editor samples, as configuration overrides: the settings of published samples, and command-line options."""

from __future__ import annotations

import json

from edit_r1.shared.errors import ConfigError
from edit_r1.trainer.config import TrainConfig
from edit_r1.trainer.models import FAMILIES, family_class

SAMPLINGS = ("configured", "published")


def sampling_overrides(
    config: TrainConfig,
    sampling: str,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    true_cfg: float | None = None,
    negative_prompt: str | None = None,
) -> list[str]:
    """Overrides that make a configuration sample this way; values that are not None take precedence.

    sampling: configured (as the configuration says) or published. true_cfg: 1 is none. Raises ConfigError for another
    sampling, or when nothing was published for the model family.
    """
    if sampling not in SAMPLINGS:
        raise ConfigError(f"--sampling {sampling}: must be one of {', '.join(SAMPLINGS)}")
    overrides = _published(config.model.family) if sampling == "published" else []
    if steps is not None:
        overrides.append(f"evaluation.steps={steps}")
    if guidance is not None:
        overrides.append(f"rollout.guidance={guidance}")
    if true_cfg is not None:
        overrides += _without_true_cfg() if true_cfg == 1 else [f"evaluation.true_cfg={true_cfg}"]
    if negative_prompt is not None:
        overrides.append(_negative_prompt(negative_prompt))
    return overrides


def _published(family: str) -> list[str]:
    model = family_class(family)
    preset, branch = model.published_sampling, model.negative_branch
    if preset is None:
        names = [name for name in FAMILIES if family_class(name).published_sampling]
        raise ConfigError(f"--sampling published: not known for model.family = {family}, only for {', '.join(names)}")
    overrides = [f"evaluation.steps={preset.steps}"]
    if preset.guidance is not None:
        overrides.append(f"rollout.guidance={preset.guidance}")
    if preset.true_cfg is None or branch is None:
        return overrides + _without_true_cfg()
    return [*overrides, f"evaluation.true_cfg={preset.true_cfg}", _negative_prompt(branch.prompt)]


def _without_true_cfg() -> list[str]:
    return ["evaluation.true_cfg=null", "evaluation.negative_prompt=null"]


def _negative_prompt(text: str) -> str:
    return f"evaluation.negative_prompt={json.dumps(text, ensure_ascii=False)}"  # JSON strings are YAML
