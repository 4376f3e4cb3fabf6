"""`python -m edit_r1.worlds.shapes.demo`, as run by `make demo`: a short run and the files it writes."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

from edit_r1.shared.jsonl import read_rows, write_rows

ROOT = Path(__file__).resolve().parents[3]
SHORT = ("epochs=1", "groups_per_epoch=2", "group_size=2", "rollout.batch_groups=1", "trained_timesteps=1")


def first_held_out(path, count=12):
    """The first few of the demo's held-out tasks."""
    data = ROOT / "worlds/shapes/data"
    tasks = itertools.islice(read_rows(data / "held_out.jsonl"), count)
    write_rows(path, ({**task, "image": str(data / task["image"])} for _, task in tasks))
    return path


def test_it_ends_with_the_figures_of_its_report_and_keeps_an_earlier_run(tmp_path):
    run_dir = tmp_path / "demo"
    run_dir.mkdir()
    (run_dir / "report.html").write_text("an earlier one")
    overrides = (*SHORT, f"run_dir={run_dir}", f"data.held_out={first_held_out(tmp_path / 'held_out.jsonl')}")
    command = [sys.executable, "-m", "edit_r1.worlds.shapes.demo", *overrides]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    summary = json.loads((run_dir / "summary.json").read_text())
    for name in ("reward", "oracle_success"):
        row = re.search(rf"{name.replace('_', ' ')}\D+([\d.]+)\D+([\d.]+)", ended.stdout)
        assert row is not None, ended.stdout
        assert row.groups() == (f"{summary['before'][name]:.3f}", f"{summary['after'][name]:.3f}")
    assert f"report: {run_dir / 'report.html'}" in ended.stdout
    assert (run_dir / "report.html").read_text().count("data:image/") >= 8
    (kept,) = tmp_path.glob("demo-*/report.html")
    assert kept.read_text() == "an earlier one"
