"""The launch files in examples/, run on this machine with a tiny editor, processes as GPUs and ports as nodes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.color_judge import ColorJudge, serving
from tests.support.serving import free_port, reward_service
from tests.support.tiny_run import ROOT, metrics

LAUNCH = ROOT / "examples" / "launch"
JUDGE = ROOT / "worlds/shapes/judge"
SRUN = """#!/usr/bin/env bash
# Stands in for Slurm: the command once for each node, all on this machine.
nodes=1
while [[ $1 == --* ]]; do [[ $1 == --nodes=* ]] && nodes=${1#--nodes=}; shift; done
for ((i = 0; i < nodes; i++)); do SLURM_NODEID=$i "$@" & done
trap 'kill $(jobs -p)' TERM
wait
"""
SCONTROL = """#!/usr/bin/env bash
printf '127.0.0.1\\n127.0.0.1\\n127.0.0.1\\n'
"""


def start(name, tiny, *arguments, **variables):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "CONFIG": str(tiny.config), **variables}
    return subprocess.Popen(
        ["bash", str(LAUNCH / name), "epochs=1", "data.held_out=null", *arguments],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(*processes):
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return outputs


def test_one_gpu_and_one_node_train_alike(tiny, tmp_path):
    with serving(ColorJudge()) as url:

        def arguments(name):
            return f"reward.url={url}", f"run_dir={tmp_path / name}"

        alone = start("one_gpu.sh", tiny, *arguments("one"))
        together = start("one_node.sh", tiny, *arguments("node"), NUM_GPUS="2", PORT=str(free_port()))
        assert "2 processes" in finish(alone, together)[1]
    (one,), (node,) = metrics(tmp_path / "one"), metrics(tmp_path / "node")
    assert node == pytest.approx(one, abs=1e-4)


def test_a_slurm_job_judges_on_its_first_node_and_trains_on_the_others_as_one_process_does(tiny, tmp_path):
    """Each of the other nodes runs several_nodes.sh."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    process = start(
        "slurm.sbatch",
        tiny,
        f"run_dir={tmp_path / 'run'}",
        "reward.wait_seconds=90",
        SLURM_JOB_NODELIST="three",
        JUDGE=str(JUDGE),
        ENGINE="transformers",
        JUDGE_PORT=str(free_port()),
        GPUS_PER_NODE="1",
        PORT=str(free_port()),
        PATH=f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    )
    (output,) = finish(process)
    assert "2 processes" in output
    with reward_service(JUDGE) as url:
        tiny.train(url, tmp_path / "one", "epochs=1", "data.held_out=null")
    (one,), (nodes,) = metrics(tmp_path / "one"), metrics(tmp_path / "run")
    assert nodes == pytest.approx(one, abs=1e-4)
    assert nodes["reward/missing_fraction"] == 0
