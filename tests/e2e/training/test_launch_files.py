"""The launch files in examples/, run on this machine with a tiny editor, processes as GPUs and ports as nodes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.color_judge import ColorJudge, serving
from tests.support.serving import free_port, reward_service, wait_for
from tests.support.tiny_run import ROOT, metrics

LAUNCH = ROOT / "examples" / "launch"
JUDGE = ROOT / "worlds/shapes/judge"
SRUN = """#!/usr/bin/env bash
# Stands in for Slurm: the command once for each node, all on this machine.
nodes=1
while [[ $1 == --* ]]; do [[ $1 == --nodes=* ]] && nodes=${1#--nodes=}; shift; done
for ((i = 0; i < nodes; i++)); do SLURM_NODEID=$i "$@" & done
trap 'kill $(jobs -p)' TERM
trap 'kill -USR1 $(jobs -p)' USR1
status=0
for job in $(jobs -p); do
    while kill -0 $job 2>/dev/null; do wait $job || status=$?; done
done
exit $status
"""
SCONTROL = """#!/usr/bin/env bash
if [[ $1 == requeue ]]; then echo "requeued job $2"; exit; fi
printf '127.0.0.1\\n127.0.0.1\\n127.0.0.1\\n'
"""
LONG = ("groups_per_epoch=12", "micro_batch_size=1", "epochs=500", "checkpoint.every=0")
"""A run that goes on for longer than a test."""


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


def finished_an_epoch(run_dir):
    """All processes are then ready for signals; the file is made earlier, empty."""
    path = run_dir / "metrics.jsonl"
    return path.exists() and path.read_text()


def one_gpu(tiny, run_dir, url):
    return start("one_gpu.sh", tiny, f"reward.url={url}", f"run_dir={run_dir}", *LONG)


def one_node(tiny, run_dir, url):
    ports = {"NUM_GPUS": "2", "PORT": str(free_port())}
    return start("one_node.sh", tiny, f"reward.url={url}", f"run_dir={run_dir}", *LONG, **ports)


@pytest.mark.parametrize(
    ("launch", "number"), [(one_gpu, signal.SIGTERM), (one_node, signal.SIGTERM), (one_node, signal.SIGUSR1)]
)
def test_a_signal_to_the_launcher_reaches_the_trainer(tiny, tmp_path, launch, number):
    with serving(ColorJudge()) as url:
        process = launch(tiny, tmp_path / "run", url)
        wait_for(lambda: finished_an_epoch(tmp_path / "run"), 120)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == (128 + number if launch is one_gpu else 1)  # torchrun's own status
    assert f"stopped by {number.name} after epoch" in output
    assert list((tmp_path / "run/checkpoints").glob("step-*/manifest.json"))


def test_a_slurm_job_whose_time_is_up_writes_a_checkpoint_and_requeues_itself(tiny, tmp_path):
    port = free_port()
    process = slurm_job(tiny, tmp_path, *LONG, SLURM_JOB_ID="17", JUDGE_PORT=str(port))
    wait_for(lambda: finished_an_epoch(tmp_path / "run"), 150)
    assert httpx.get(f"http://127.0.0.1:{port}/v1/info").status_code == 401  # the job has a key of its own
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=60)
    assert "stopped by SIGUSR1 after epoch" in output
    assert "requeued job 17" in output
    assert process.returncode != 0
    assert list((tmp_path / "run/checkpoints").glob("step-*/manifest.json"))


def slurm_job(tiny, tmp_path, *arguments, **variables):
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {
        "SLURM_JOB_NODELIST": "three",
        "JUDGE": str(JUDGE),
        "ENGINE": "transformers",
        "JUDGE_OPTIONS": "",
        "JUDGE_PORT": str(free_port()),
        "GPUS_PER_NODE": "1",
        "PORT": str(free_port()),
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        **variables,
    }
    return start(
        "slurm.sbatch", tiny, f"run_dir={tmp_path / 'run'}", "reward.wait_seconds=90", *arguments, **environment
    )


def test_a_slurm_job_whose_judge_cannot_start_ends(tiny, tmp_path):
    process = slurm_job(tiny, tmp_path, "reward.wait_seconds=3600", JUDGE=str(tmp_path / "no-judge"))
    output, _ = process.communicate(timeout=100)
    assert process.returncode not in (0, None)
    assert "no-judge" in output


def test_a_slurm_job_judges_on_its_first_node_and_trains_on_the_others_as_one_process_does(tiny, tmp_path):
    """Each of the others runs several_nodes.sh."""
    (output,) = finish(slurm_job(tiny, tmp_path))
    assert "2 processes" in output
    with reward_service(JUDGE) as url:
        tiny.train(url, tmp_path / "one", "epochs=1", "data.held_out=null")
    (one,), (nodes,) = metrics(tmp_path / "one"), metrics(tmp_path / "run")
    assert nodes == pytest.approx(one, abs=1e-4)
    assert nodes["reward/missing_fraction"] == 0
