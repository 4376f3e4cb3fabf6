"""Packages list all their modules, and CONTRIBUTING.md all packages, and neither lists anything else."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOPS = ("shared", "reward_service", "trainer", "workbench", "worlds")
PACKAGES = sorted(path.parent for top in TOPS for path in (ROOT / top).rglob("__init__.py"))
MOST_MODULES = 17


def contents(package: Path) -> set[str]:
    """Modules and packages directly in a package."""
    modules = {path.stem for path in package.glob("*.py") if not path.stem.startswith("__")}
    return modules | {path.parent.name for path in package.glob("*/__init__.py")}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_lists_its_modules(package):
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text()), clean=False) or ""
    listed = re.findall(r"^(\w+)  +\S", text, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert contents(package) <= set(listed)
    assert all((package / name).exists() or (package / f"{name}.py").exists() for name in listed)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_room_is_crowded(package):
    assert len(contents(package)) <= MOST_MODULES


def test_the_tree_shows_every_package():
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("```text\n")[2].partition("```")[0]
    shown: list[Path] = []
    parents: list[tuple[int, Path]] = []
    for indent, name in re.findall(r"^( *)([\w/]+)/ ", text, re.MULTILINE):
        parents = [(depth, path) for depth, path in parents if depth < len(indent)]
        shown.append((parents[-1][1] if parents else ROOT) / name)
        parents.append((len(indent), shown[-1]))
    assert {*shown} - {ROOT / "edit_r1"} == {*PACKAGES} - {ROOT / "worlds"}
