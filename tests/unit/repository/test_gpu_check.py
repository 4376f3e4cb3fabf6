"""`make gpu-check`: what it leaves when a step is cut off, what it says on a bare machine, and how it measures."""

import asyncio
import json
import re
import subprocess
import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path

import psutil
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from torch import nn

from benchmarks.gpu_check.packages import NEEDED, TOO_LARGE, commands
from benchmarks.gpu_check.report import BLOCK, markdown
from benchmarks.gpu_check.runner import Step, run_steps
from benchmarks.gpu_check.steps import LIMITS, steps
from benchmarks.support.figures import replaced
from benchmarks.support.stages import Stages
from benchmarks.support.training import TINY_EDITOR, kontext_config, with_random_weights
from benchmarks.vae_memory import PeakOfLiveTensors
from edit_r1.trainer.records.records import read_versions, save_versions
from tests.support.color_judge import ColorJudge

ROOT = Path(__file__).resolve().parents[3]
HEAD = {"date": "2026-01-01", "data_sheet_tflops": 990.0, "machine": {"card": "NVIDIA H200", "driver": "580.1"}}
WRITE = "import sys; file = open(sys.argv[-1], 'a', buffering=1); file.write('{\"first\": {\"seconds\": 1.5}}\\n')"
OPTIONAL = {"hf-xet"}
"""In the dependencies' requirements, but not needed without network."""


def program(text: str, limit: float = 60.0, name: str = "step") -> Step:
    return Step(name, (sys.executable, "-c", f"{WRITE}; {text}"), limit)


def test_a_step_that_is_cut_off_leaves_its_figures_and_the_next_one_runs(tmp_path):
    child = f"[{sys.executable!r}, '-c', 'import time; time.sleep(600)', {str(tmp_path)!r}]"
    sleeps = f"file.write('{{\"torn'); import subprocess; subprocess.run({child})"
    queue = [
        program(sleeps, 2.0, "slow"),
        program("raise SystemExit('no memory')", name="bad"),
        program("", name="good"),
    ]
    out = tmp_path / "check.json"
    results = run_steps(queue, HEAD, out, lambda _: None)
    assert json.loads(out.read_text()) == results
    found = results["steps"]
    assert {name: step["status"] for name, step in found.items()} == {
        "slow": "cut off",
        "bad": "failed",
        "good": "done",
    }
    assert all(step["figures"] == {"first": {"seconds": 1.5}} for step in found.values())
    assert found["slow"]["seconds"] < 20
    assert found["bad"]["log"] == ["no memory"]
    # Nothing that the step started is left to occupy the GPU.
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in (one.info["cmdline"] or [])]


def test_the_file_is_written_after_every_step(tmp_path):
    out = tmp_path / "check.json"
    seen = []
    run_steps(
        [program("", name="a"), program("", name="b")], HEAD, out, lambda _: seen.append(json.loads(out.read_text()))
    )
    assert [list(one["steps"]) for one in seen] == [[], ["a"], ["a"], ["a", "b"]]


def test_all_steps_together_take_under_8_minutes():
    chosen = steps(list(LIMITS), tiny=False, tflops=990.0)
    assert [step.name for step in chosen] == list(LIMITS)
    assert sum(step.limit_seconds for step in chosen) < 8 * 60


def test_figures_as_markdown(tmp_path):
    text = markdown(run_steps([program("")], HEAD, tmp_path / "check.json", lambda _: None))
    assert "|  | first | seconds 1.5 |" in text
    assert "NVIDIA H200; driver 580.1" in text
    block = f"<!-- figures: {BLOCK} -->\n\n<!-- end of figures -->\n"
    assert text in replaced(block, BLOCK, text)


def test_a_bare_machine_is_told_what_to_bring(tmp_path):
    """-S hides all installed packages."""
    out = tmp_path / "check.json"
    command = [sys.executable, "-S", "-m", "benchmarks.gpu_check", "--out", str(out)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    found = json.loads(out.read_text())
    assert found["missing"] == [*TOO_LARGE, *NEEDED]
    download, install = found["commands"]
    assert download in ended.stderr
    assert install in ended.stderr
    assert "torch and torchvision with CUDA: gigabytes" in ended.stderr


def test_packages_are_brought_from_the_public_index_in_the_pinned_versions():
    download, install = commands(["torch", "diffusers", "pydantic-core"])
    assert re.search(r" diffusers==\d[\d.]+ pydantic-core==\d[\d.]+$", download)
    assert not re.search(r"https?:|--(extra-)?index-url|torch", download)
    assert "--no-index" in install
    assert commands(["torch"]) == []


def test_the_packages_are_those_that_the_programs_require():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    found = required([*project["dependencies"], *extras["service"], *extras["trainer"]])
    assert {*NEEDED, *TOO_LARGE} == found - OPTIONAL


def required(lines: list[str]) -> set[str]:
    """Names of all packages that these need, without what only TOO_LARGE need."""
    found: set[str] = set()
    while lines:
        requirement = Requirement(lines.pop())
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        lines += [] if name in TOO_LARGE else metadata.distribution(name).requires or []
    return found


def test_a_stage_does_not_count_the_stages_inside():
    stages = Stages(torch.device("cpu"))
    with stages.measure("outer"):
        stages.measured("inner", time.sleep)(0.2)
    assert stages.found["inner"].seconds >= 0.2
    assert stages.found["outer"].seconds < 0.1


class _WithMemory(PeakOfLiveTensors):
    def _count(self, storage):
        if storage.device.type != "meta":
            super()._count(storage)


def test_drawing_random_weights_takes_no_more_memory_than_the_weights(tmp_path):
    config = kontext_config(tmp_path, model=TINY_EDITOR, groups=1, side=32, overrides=["model.precision=bfloat16"])
    with _WithMemory(nn.Module()) as live:
        family = with_random_weights(config, torch.device("cpu"))
    modules = (family.transformer, family.vae, *family.text_encoders)
    weights = sum(tensor.nbytes for module in modules for tensor in (*module.parameters(), *module.buffers()))
    assert next(family.transformer.parameters()).dtype == torch.bfloat16
    assert live.peak == pytest.approx(weights, rel=0.02)


def test_training_records_its_versions_where_edit_r1_is_not_installed(tmp_path, monkeypatch):
    def version(name, original=metadata.version):
        if name == "edit-r1":
            raise metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr(metadata, "version", version)
    save_versions(tmp_path, {"reward": asyncio.run(ColorJudge()._info())})
    found = read_versions(tmp_path)["trainer"]
    assert "edit-r1" not in found
    assert found["torch"] == metadata.version("torch")
