"""Every example configuration is valid, and the one for the paper matches Table 5."""

from __future__ import annotations

from pathlib import Path

import pytest

from edit_r1.shared.config import load_config
from edit_r1.trainer.config import TrainConfig

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = [ROOT / "worlds" / "shapes" / "nft.yaml", *sorted((ROOT / "examples").glob("*.yaml"))]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configuration_is_valid(path: Path) -> None:
    load_config(TrainConfig, path)


def test_the_reference_configuration_is_table_5() -> None:
    config = load_config(TrainConfig, ROOT / "examples" / "flux_kontext_nft.yaml")
    assert (config.groups_per_epoch, config.group_size, config.micro_batch_size) == (24, 12, 3)
    assert (config.rollout.steps, config.model.width, config.model.height) == (6, 512, 512)
    assert (config.optimizer.learning_rate, config.optimizer.betas, config.ema_decay) == (3e-4, (0.9, 0.999), 0.9)
    assert (config.nft.beta, config.nft.kl_weight) == (1.0, 1e-4)
    assert (config.filter.tau_mean, config.filter.tau_spread) == (0.9, 0.05)
