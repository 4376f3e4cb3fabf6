"""`python -m benchmarks.gpu_check --tiny`: every step runs on a CPU, and the file is complete."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.gpu_check.steps import LIMITS

ROOT = Path(__file__).resolve().parents[3]


def test_every_step_runs_at_a_tiny_size_on_a_cpu(tmp_path):
    out = tmp_path / "gpu-check.json"
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--tiny", "--out", str(out)]
    # Tests of vLLM switch the compiler off for their process, and with it for this child.
    environment = {name: value for name, value in os.environ.items() if name != "TORCHDYNAMO_DISABLE"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    found = json.loads(out.read_text())
    assert ended.returncode == 0, found
    assert found["machine"]["torch"] == torch.__version__.partition("+")[0]
    assert list(found["steps"]) == list(LIMITS)
    figures = {name: step["figures"] for name, step in found["steps"].items()}
    assert [*figures["kontext"]] == ["rollout", "decode", "update", "estimate of edit-r1 doctor"]
    assert all(0 < figures["kontext"][stage]["utilisation"] < 1 for stage in ("rollout", "update"))
    assert {"decode, vae_pixels=1048576", "decode, all at once"} <= figures["large"].keys()
    assert figures["judge"]["in groups, bfloat16"]["candidates_per_second"] > 0
    first, again = (figures["compile"][f"compile: eager{when}"]["graphs_compiled"] for when in (", first update", ""))
    assert (first > 0, again) == (True, 0)
    losses = figures["demo"]["cpu"]["nft/loss"]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    assert ended.stdout.startswith("| step | measurement | figures |")
