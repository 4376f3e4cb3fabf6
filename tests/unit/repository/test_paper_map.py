"""The map from the paper to the code names only existing code, and its hyperparameters are the defaults."""

import ast
import re
from pathlib import Path

import pytest

from edit_r1.trainer.config import TrainConfig

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/paper-map.md").read_text()
NAMED = re.findall(r"\[([\w./]+)(?:: ([\w., ]+))?\]\(\.\./([\w./]+)\)", TEXT)
VALUES = re.findall(r"^\|[^|]*\| ([^|`]+) \| `([a-z_.]+)` \|$", TEXT, re.MULTILINE)
KEYS = re.findall(r"`([a-z_]+(?:\.[a-z_]+)?)(?:=(\w+))?`", TEXT)
DEFAULTS = TrainConfig.model_validate({"run_dir": "r", "data": {"train": "t"}, "model": {"path": "p"}}).model_dump(
    mode="json"
)
NOT_KEYS = {"add", "velocity"}


def symbols(path: Path) -> set[str]:
    """Names defined by a module, and `Class.member` for its classes."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        for name in _names(node):
            found.add(name)
            if isinstance(node, ast.ClassDef):
                found |= {f"{name}.{member}" for part in node.body for member in _names(part)}
    return found


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def default(key: str) -> object:
    """The default of a dotted key; raises KeyError if it does not exist."""
    value: object = DEFAULTS
    for part in key.split("."):
        assert isinstance(value, dict)
        value = value[part]
    return value


@pytest.mark.parametrize(("shown", "names", "path"), NAMED, ids=lambda value: value)
def test_every_file_and_symbol_exists(shown, names, path):
    assert shown in {path, path.rpartition("/")[2]}
    assert (ROOT / path).exists()
    if names:
        assert set(names.split(", ")) <= symbols(ROOT / path)


def test_every_equation_table_and_template_is_on_the_map():
    for number in range(1, 12):
        assert re.search(rf"^\| Eq\. (\d+, )?{number}\b", TEXT, re.MULTILINE), f"Eq. {number}"
    for item in ("Table 1", "Table 2", "Table 3", "Table 4", "Table 5", "Figure 7", "Figure 8"):
        assert item in TEXT
    assert len(NAMED) > 60


@pytest.mark.parametrize(("value", "key"), VALUES, ids=lambda value: value)
def test_hyperparameters_are_the_defaults(value, key):
    assert default(key) == ast.literal_eval(value)


def test_every_key_exists_and_takes_the_value_that_is_named():
    named = [(key, value) for key, value in KEYS if key not in NOT_KEYS]
    assert len(named) > 30
    for key, value in named:
        default(key)
        if value:
            section, _, name = key.partition(".")
            TrainConfig.model_validate(
                {"run_dir": "r", "data": {"train": "t"}, "model": {"path": "p"}, section: {name: value}}
            )
