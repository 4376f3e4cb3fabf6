"""The containers as a user meets them: built, run to a report, asked across the network. Needs a Docker engine.

make containers-check
"""

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEY = "a-key-for-this-check"
SHORT_RUN = "epochs=2 groups_per_epoch=4 rollout.batch_groups=2 evaluation.every=0 data.held_out=null"
READ_METRICS = f"""
from urllib.request import Request, urlopen
asked = Request("http://127.0.0.1:8000/metrics", headers=dict(Authorization="Bearer {KEY}"))
print(urlopen(asked).read().decode())
"""
SAMPLE = "worlds/shapes/samples/00"
EVERYTHING_ASKED: dict[str, Any] = {"REWARD_MODEL": "m", "DATA_DIR": ".", "REWARD_URL": "http://elsewhere:8000"}

pytestmark = pytest.mark.timeout(1200)


@dataclass(frozen=True)
class Stack:
    """One compose project; several of them stand in for several machines."""

    name: str
    overlays: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    """The user's environment."""

    def compose(self, *arguments: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `docker compose` with additional variables; the output includes standard error."""
        files = ["docker-compose.yml", *(f"docker/compose.{name}.yml" for name in self.overlays)]
        command = ["docker", "compose", "-p", self.name, *(part for file in files for part in ("-f", file)), *arguments]
        environment = {**os.environ, "REWARD_API_KEY": KEY, **dict(self.variables), **variables}
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert ended.returncode == 0 or not check, ended.stdout[-5000:]
        return ended

    def train(self, overrides: str = SHORT_RUN, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `docker compose up` until the trainer exits; returns with the trainer's status."""
        arguments = ["up", "--abort-on-container-exit", "--exit-code-from", "trainer"]
        return self.compose(*arguments, check=False, TRAIN_OVERRIDES=overrides, **variables)

    def in_trainer(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in a container with the trainer's image, network and volumes."""
        command = ["run", "--rm", "--no-deps", "-T", "--entrypoint", program, "trainer", *arguments]
        return self.compose(*command, check=check)

    def score(self, url: str, key: str) -> subprocess.CompletedProcess[str]:
        """Run `edit-r1 score` on one sample in a container with the trainer's image."""
        instruction = (ROOT / SAMPLE / "instruction.txt").read_text()
        pictures = ("--source", f"{SAMPLE}/source.png", "--candidate", f"{SAMPLE}/done.png")
        command = ("score", "--url", url, "--api-key", key, *pictures, "--instruction", instruction)
        return self.in_trainer("edit-r1", *command, check=False)


@pytest.fixture(scope="session", autouse=True)
def images() -> None:
    """Both images, built from this checkout."""
    Stack("edit-r1-check").compose("build")


@pytest.fixture
def stack(request) -> Iterator[Stack]:
    """A project that is removed completely afterwards; parametrised with overlays."""
    made = Stack("edit-r1-check", getattr(request, "param", ()))
    yield made
    made.compose("down", "--volumes", "--timeout", "5", "--remove-orphans", REWARD_URL="unused")


@pytest.mark.parametrize(
    "overlays",
    [(), ("gpu",), ("remote",), ("public",), ("monitoring",), ("replicas",), ("gpu", "public"), ("gpu", "remote")],
)
def test_every_overlay_is_valid(overlays):
    profiles = ["--profile", "monitoring"] if "monitoring" in overlays else []
    Stack("edit-r1-check", overlays).compose(*profiles, "config", "--quiet", **EVERYTHING_ASKED)


def test_up_trains_and_leaves_a_report_on_the_volume(stack):
    ended = stack.train()
    assert ended.returncode == 0, ended.stdout[-5000:]
    lines = [json.loads(line) for line in stack.in_trainer("cat", "/runs/demo/metrics.jsonl").stdout.splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(0 < line["reward/mean"] < 1 and line["reward/std"] > 0 for line in lines)
    report = stack.in_trainer("cat", "/runs/demo/report.html").stdout
    assert report.lstrip().lower().startswith("<!doctype html")
    assert report.count("<img") + report.count("<svg") > 0
    # The same command again finds the run complete.
    assert stack.train().returncode == 0
    assert len(stack.in_trainer("cat", "/runs/demo/metrics.jsonl").stdout.splitlines()) == 2


def test_containers_have_no_rights_and_layers_no_key(stack):
    stack.compose("up", "--detach", "--wait", "reward")
    inside = stack.compose(
        "exec", "-T", "reward", "sh", "-c", "id -u; touch /opt/x; touch /home/app/x", check=False
    ).stdout
    assert inside.startswith("10001\n")
    assert inside.count("Read-only file system") == 2
    for image in ("edit-r1-reward", "edit-r1-trainer"):
        shown = subprocess.check_output(["docker", "image", "inspect", image], text=True)
        layers = subprocess.check_output(["docker", "history", "--no-trunc", image], text=True)
        assert KEY not in shown + layers
        assert "root" not in json.loads(shown)[0]["Config"]["User"]


def test_the_key_is_asked_for_across_machines(stack):
    """The reward service runs in its own published project; the trainer, in another one, has only its URL and key."""
    address = own_address()
    reward = Stack("edit-r1-check-reward", ("public",), (("REWARD_PORT", "18000"),))
    trainer = Stack("edit-r1-check-trainer", ("remote",), (("REWARD_URL", f"http://{address}:18000"),))
    try:
        reward.compose("up", "--detach", "--wait", "reward")
        accepted = trainer.score(f"http://{address}:18000", KEY)
        assert accepted.returncode == 0, accepted.stdout
        assert "done.png" in accepted.stdout
        refused = trainer.score(f"http://{address}:18000", "another")
        assert refused.returncode != 0
        assert "401" in refused.stdout
        ended = trainer.train()
        assert ended.returncode == 0, ended.stdout[-5000:]
    finally:
        trainer.compose("down", "--volumes")
        reward.compose("down", "--volumes")


def test_a_reward_service_that_fails_keeps_the_trainer_from_starting(stack):
    ended = stack.train(REWARD_ENGINE="vllm")  # which the CPU image does not have
    assert ended.returncode != 0
    states = stack.compose("ps", "--all", "--format", "{{.Service}} {{.State}}").stdout
    assert "trainer created" in states or "trainer" not in states
    assert "vllm" in stack.compose("logs", "reward").stdout


@pytest.mark.parametrize("stack", [("replicas",)], indirect=True)
def test_every_replica_gets_its_share(stack):
    stack.compose("run", "--rm", "-T", "trainer", TRAIN_OVERRIDES=SHORT_RUN, REWARD_REPLICAS="2")
    for number in ("1", "2"):
        metrics = stack.compose("exec", "-T", "--index", number, "reward", "python3", "-c", READ_METRICS).stdout
        scored = re.search(r'reward_candidates_total{method="score_logit",outcome="ok"} (\d+)', metrics)
        assert scored, metrics
        assert int(scored[1]) > 0


def own_address() -> str:
    """An address of this machine that containers can reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])
