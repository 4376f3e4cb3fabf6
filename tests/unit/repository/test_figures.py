"""Figures in documents: programs write them into their own blocks and change nothing else."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.__main__ import BENCHMARKS, BENCHMARKS_PAGE, MACHINE, machine
from benchmarks.gpu_check.report import BLOCK as GPU_BLOCK
from benchmarks.support.figures import names, replaced
from edit_r1.workbench.markdown import table

ROOT = Path(__file__).resolve().parents[3]
TEXT = st.text("ab|\\<>&-: \n", max_size=60)
NAMES = st.lists(st.from_regex(r"[a-z][a-z-]{0,8}", fullmatch=True), min_size=1, max_size=4, unique=True)


def document(blocks: dict[str, str], prose: str) -> str:
    """A document with the prose repeated before each block of figures."""
    pieces = (
        f"{prose}\n<!-- figures: {name} -->\n\n{text.strip()}\n\n<!-- end of figures -->\n"
        for name, text in blocks.items()
    )
    return "".join(pieces)


@given(names=NAMES, prose=TEXT, old=TEXT, new=TEXT, data=st.data())
def test_new_figures_replace_those_of_their_name_and_nothing_else(names, prose, old, new, data):
    changed = data.draw(st.sampled_from(names))
    before = dict.fromkeys(names, old)
    assert replaced(document(before, prose), changed, new) == document(before | {changed: new}, prose)


@pytest.mark.parametrize("text", ["", document({"other": "1"}, "x"), 2 * document({"speed": "1"}, "x")])
def test_figures_without_one_place_of_their_own_are_refused(text):
    with pytest.raises(ValueError, match="figures: speed"):
        replaced(text, "speed", "2")


def test_every_block_of_a_page_has_its_benchmark_and_every_benchmark_its_blocks():
    pages = {page for benchmark in BENCHMARKS.values() for page in benchmark.pages}
    for page in pages:
        expected = {name for name, benchmark in BENCHMARKS.items() if page in benchmark.pages}
        found = [name for name in names((ROOT / page).read_text(encoding="utf-8")) if name != GPU_BLOCK]
        assert sorted(found) == sorted(expected | ({MACHINE} if page == BENCHMARKS_PAGE else set())), page


def test_every_benchmark_is_a_module():
    for name, benchmark in BENCHMARKS.items():
        assert find_spec(benchmark.command[0]) is not None, name


def test_the_machine_is_described():
    assert re.match(r"\d+ cores of .+ GB; Linux, Python 3\.\d+\.\d+, torch 2\..+, vllm .+\.$", machine())


def test_only_figures_reach_stdout():
    program = """
import subprocess
from benchmarks.gpu_check.report import BLOCK as GPU_BLOCK
from benchmarks.support.figures import stdout_for_figures
with stdout_for_figures() as stdout:
    print("an engine's log")
    subprocess.run(["echo", "its child's"])
    print("figures", file=stdout)
print("afterwards")
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "figures\nafterwards\n"
    assert ended.stderr == "an engine's log\nits child's\n"


def test_a_table_refuses_a_row_that_does_not_fit_its_headings():
    assert table(("a", "b"), [(1, "x")]) == "| a | b |\n| --- | --- |\n| 1 | x |"
    with pytest.raises(ValueError, match="1 cells for 2 headings"):
        table(("a", "b"), [(1,)])
