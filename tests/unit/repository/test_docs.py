"""The documentation lists exactly what exists."""

import re
from pathlib import Path

from edit_r1.trainer.config import MonitorConfig
from edit_r1.trainer.mathematics.alarms import ALARMS
from edit_r1.trainer.mathematics.filtering import RULES
from edit_r1.trainer.update.losses import GrpoLoss, NftLoss
from tests.unit.repository.test_paper_map import symbols

ROOT = Path(__file__).resolve().parents[3]
TRAINING = (ROOT / "docs/training.md").read_text()
PATTERNS = {
    "reward/COMPONENT_mean": r"reward/[a-z_]+_mean",
    "filter/RULE_drops_groups": rf"filter/({'|'.join(RULES)})_drops_groups",
    "alarm/NAME": rf"alarm/({'|'.join(ALARMS)})",
    "eval/METRIC": r"eval/\w+",
    "time/STAGE_seconds": r"time/[a-z_]+_seconds",
}


def listed_metrics() -> list[str]:
    """Names in the first column of the metrics table, as regular expressions."""
    table = TRAINING[TRAINING.index("| metric |") :]
    names = [name for line in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", line.split("|")[1])]
    return [PATTERNS.get(name, re.escape(name)) for name in names]


def undocumented(metrics: set[str]) -> set[str]:
    """Metrics that the table does not list."""
    return {name for name in metrics if not any(re.fullmatch(pattern, name) for pattern in listed_metrics())}


def test_the_objectives_metrics_are_listed():
    assert undocumented({*NftLoss.names, *GrpoLoss.names}) == set()
    assert undocumented({"nft/lose"}) == {"nft/lose"}


def test_the_threat_model_names_tests_that_exist():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text()))
    there = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(named) > 20
    assert named - there == set()


def test_the_python_api_names_what_exists():
    text = (ROOT / "docs/api.md").read_text()
    entries = re.findall(r"^::: ([\w.]+)\n(?:    options:\n      members: \[(.*)\])?", text, re.MULTILINE)
    assert len(entries) > 25
    for name, members in entries:
        module, _, symbol = (name, "", "") if module_path(name).exists() else name.rpartition(".")
        named = {symbol} if symbol else set(filter(None, members.split(", ")))
        assert named <= symbols(module_path(module)), name


def module_path(name: str) -> Path:
    """The file of one of our modules."""
    return ROOT / f"{name.replace('.', '/')}.py"


def test_every_alarm_and_its_key_is_listed():
    for name in ALARMS:
        assert f"| `{name}` |" in TRAINING
    for key in re.findall(r"`monitor\.(\w+)`", TRAINING):
        assert key in MonitorConfig.model_fields
