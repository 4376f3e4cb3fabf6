"""Every example is valid for the hardware it names, its commands exist, and the paper's examples match Table 5."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from edit_r1.reward_service.settings import Settings
from edit_r1.shared.config import load_config
from edit_r1.trainer.config import TrainConfig, check_world_size

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
CONFIGS = [ROOT / "worlds" / "shapes" / "nft.yaml", *EXAMPLES]
PAPER = ("flux_kontext_nft.yaml", "flux_kontext_nft_8x80gb.yaml", "qwen_image_edit_2509_nft_48x80gb.yaml")
NAME = re.compile(r"(flux_kontext|qwen_image_edit_\d{4})_(nft|grpo)(_local_std|_editscore_rl)?_(\d+)x80gb\.yaml")
GPUS_PER_NODE = 8


def named(names: tuple[str, ...]) -> list[Path]:
    return [ROOT / "examples" / name for name in names]


def commands(example: Path) -> Iterator[list[str]]:
    """The commands in an example's header, as words."""
    header = "\n".join(line[1:] for line in example.read_text().splitlines() if line.startswith("#"))
    for line in header.replace("\\\n", " ").splitlines():
        if re.match(r" {3,}([A-Z_]+=|edit-r1)", line):
            yield shlex.split(line)


def trainings(example: Path) -> Iterator[tuple[int, list[str]]]:
    """Number of processes and overrides of each training command; checks that it names this example."""
    for words in commands(example):
        if "serve" in words:
            continue
        where = {key: value for key, _, value in (word.partition("=") for word in words) if key.isupper()}
        assert f"examples/{example.name}" in (where.get("CONFIG"), *words)
        nodes = GPUS_PER_NODE * int(where.get("NODES", "0"))
        assert all((ROOT / word).exists() for word in words if word.startswith("examples/"))
        yield nodes or int(where.get("NUM_GPUS", "1")), [word for word in words if re.match(r"[a-z_.]+=", word)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configuration_is_valid(path: Path) -> None:
    load_config(TrainConfig, path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_its_commands_train_on_as_many_processes_as_they_start(path: Path) -> None:
    found = list(trainings(path))
    assert found
    for num_processes, overrides in found:
        check_world_size(load_config(TrainConfig, path, overrides), num_processes)
    if match := NAME.fullmatch(path.name):
        beside = [words for words in commands(path) if words[0].startswith("CUDA") and "serve" in words]
        judges = sum(len(words[0].split(",")) for words in beside)
        assert found[0][0] + judges == int(match[4])
    else:
        assert path.name == "flux_kontext_nft.yaml"  # launch files and manifests use this name


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_its_judge_is_started_with_options_that_exist(path: Path) -> None:
    for words in commands(path):
        if "serve" in words:
            options = {word[2:].replace("-", "_") for word in words if word.startswith("--")}
            assert options <= set(Settings.model_fields)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_its_header_says_what_was_not_measured(path: Path) -> None:
    assert "\n# Expect" in path.read_text()
    assert "\n# Not measured: " in path.read_text()
    assert f"[`{path.name}`](../examples/{path.name})" in (ROOT / "docs/training.md").read_text()


@pytest.mark.parametrize("path", named(PAPER), ids=lambda path: path.name)
def test_the_papers_configurations_are_table_5(path: Path) -> None:
    config = load_config(TrainConfig, path)
    assert (config.groups_per_epoch, config.group_size, config.micro_batch_size) == (24, 12, 3)
    assert (config.rollout.steps, config.model.width, config.model.height) == (6, 512, 512)
    assert (config.optimizer.learning_rate, config.optimizer.betas, config.ema_decay) == (3e-4, (0.9, 0.999), 0.9)
    assert (config.nft.beta, config.nft.kl_weight) == (1.0, 1e-4)
    assert (config.filter.rule, config.filter.tau_mean, config.filter.tau_spread) == ("paper", 0.9, 0.05)
    assert config.model.aspect == "crop"
    assert config.model.gradient_checkpointing


@pytest.mark.parametrize(
    ("name", "algorithm", "std"),
    [
        ("flux_kontext_grpo_24x80gb.yaml", "flow_grpo", "global"),
        ("flux_kontext_grpo_local_std_24x80gb.yaml", "flow_grpo", "group"),
        ("flux_kontext_nft_local_std_24x80gb.yaml", "nft", "group"),
    ],
)
def test_the_baselines_differ_from_the_paper_in_what_they_name(name: str, algorithm: str, std: str) -> None:
    config = load_config(TrainConfig, ROOT / "examples" / name)
    paper = load_config(TrainConfig, ROOT / "examples" / "flux_kontext_nft.yaml")
    assert (config.algorithm, config.advantage.std) == (algorithm, std)
    same = ["run_dir", "algorithm", "advantage", *(["filter"] if algorithm == "flow_grpo" else [])]
    assert config.model_copy(update={key: getattr(paper, key) for key in same}) == paper


def test_every_example_that_a_page_mentions_exists() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.*")]
    pages += [path for path in (ROOT / "docker").rglob("*") if path.is_file()]
    mentioned = {name for page in pages for name in re.findall(r"examples/(\w+\.(?:yaml|py))", page.read_text())}
    assert len(mentioned) >= len(EXAMPLES)
    assert {name for name in mentioned if not (ROOT / "examples" / name).exists()} == set()
