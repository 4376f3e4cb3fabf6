"""One process of a node goes first."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from edit_r1.trainer.machine import turns
from edit_r1.trainer.machine.turns import local_main_first

PROGRAM = """
import sys, time
from edit_r1.trainer.machine.turns import local_main_first
from pathlib import Path
time.sleep(float(sys.argv[1]))
with local_main_first(Path(sys.argv[2])):
    print("in", time.monotonic())
    time.sleep(0.5)
    print("out", time.monotonic())
"""


@pytest.mark.parametrize("delays", [(0.6, 0, 0), (0, 0.2, 1.5)], ids=["late", "early"])
def test_the_others_begin_when_the_first_has_ended(delays, tmp_path):
    command = [sys.executable, "-c", PROGRAM]
    running = [
        subprocess.Popen(
            [*command, str(delay), str(tmp_path / "x.lock")],
            env={"LOCAL_RANK": str(rank), "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank, delay in enumerate(delays)
    ]
    times = [[float(word) for word in one.communicate()[0].split() if word[0].isdigit()] for one in running]
    first, *others = times
    assert all(begins >= first[1] for begins, _ in others)


def test_the_others_do_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "_HEAD_START_SECONDS", 0.2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    started = time.monotonic()
    with local_main_first(tmp_path / "x.lock"):
        assert time.monotonic() - started >= 0.2


def test_an_error_of_the_first_leaves_the_turn_to_the_next(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="mine"), local_main_first(tmp_path / "x.lock"):
        raise ValueError("mine")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with local_main_first(tmp_path / "x.lock"):
        pass
