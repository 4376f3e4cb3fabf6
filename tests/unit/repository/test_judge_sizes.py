"""Every file that starts a judge gives it enough GPUs and memory: weights and cache, by the doctor's arithmetic."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
import yaml

from edit_r1.trainer.doctor.estimates import JudgeShape, judge_memory
from edit_r1.trainer.doctor.judge import JUDGE_TOKENS, judge_fits, judge_shape
from edit_r1.trainer.doctor.planning import Gpus
from tests.support.published_judges import PARAMETERS, write_judge
from tests.unit.repository.test_deployment import containers
from tests.unit.repository.test_examples import EXAMPLES, GPUS_PER_NODE, ROOT, commands

COLD_START_SECONDS = 1800
"""A 32B judge: 67 GB at 50 MB/s, and loading."""
SMALLEST_GPU = 24.0
"""GB of the smallest GPU that reward.yaml and .env.example name."""


@dataclass(frozen=True)
class Start:
    """A judge as a file starts it."""

    where: str
    model: str
    options: Mapping[str, str]
    """Settings of the service by name."""
    num_gpus: int
    gigabytes: float = 80.0

    def option(self, name: str, default: str = "1") -> float:
        """A setting's number."""
        return float(self.options.get(name, default))


def options_of(words: list[str]) -> dict[str, str]:
    flags = " ".join(words)
    return {name.replace("-", "_"): value for name, value in re.findall(r"--([a-z-]+) ([^-\s]\S*)", flags)}


def slurm() -> Start:
    text = (ROOT / "examples/launch/slurm.sbatch").read_text()
    (model,), (options,) = re.findall(r"\$\{JUDGE:-(\S+)\}", text), re.findall(r"\$\{JUDGE_OPTIONS-(.*)\}\"", text)
    (gpus,) = re.findall(r"--gpus-per-node=(\d+)", text)
    return Start("slurm.sbatch", model, options_of(shlex.split(options)), int(gpus))


def kubernetes() -> Start:
    container = containers()["reward"]
    settings = {one["name"].removeprefix("REWARD_").lower(): one.get("value", "") for one in container["env"]}
    gpus = int(container["resources"]["limits"]["nvidia.com/gpu"])
    return Start("reward.yaml", settings["model"], settings, gpus, SMALLEST_GPU)


def compose() -> Start:
    """The overlay with a copy of the example environment."""
    example = dict(re.findall(r"^([A-Z_]+)=([^\s#]*)", (ROOT / ".env.example").read_text(), re.MULTILINE))
    overlay = yaml.safe_load((ROOT / "docker/compose.gpu.yml").read_text())["services"]["reward"]["environment"]
    settings = {}
    for name, value in overlay.items():
        variable = re.fullmatch(r"\$\{(\w+):?-(.*)\}", value)
        settings[name.removeprefix("REWARD_").lower()] = example.get(variable[1]) or variable[2] if variable else value
    return Start(".env.example", example["REWARD_MODEL"], settings, len(example["REWARD_GPU"].split(",")), SMALLEST_GPU)


def in_examples() -> Iterator[Start]:
    for path in EXAMPLES:
        for words in commands(path):
            if "serve" in words:
                devices = re.match(r"CUDA_VISIBLE_DEVICES=(\S+)", words[0])
                on_network = "0.0.0.0" in words  # noqa: S104 - a node of its own
                number = len(devices[1].split(",")) if devices else GPUS_PER_NODE if on_network else 1
                options = options_of(words[words.index("serve") :])
                yield Start(path.name, options["model"], options, number)


def ray() -> Start:
    (application,) = yaml.safe_load((ROOT / "examples/launch/ray_serve.yaml").read_text())["applications"]
    variables = application["runtime_env"]["env_vars"]
    settings = {name.removeprefix("REWARD_").lower(): value for name, value in variables.items()}
    return Start("ray_serve.yaml", settings["model"], settings, application["args"]["gpus_per_replica"])


STARTS = [slurm(), ray(), kubernetes(), compose(), *in_examples()]


@pytest.fixture(scope="module")
def shape(tmp_path_factory):
    def of(model: str) -> JudgeShape:
        found = judge_shape(str(write_judge(model, tmp_path_factory.mktemp("judge"))))
        assert found.parameters == pytest.approx(PARAMETERS[model], rel=0.01)
        return found

    return of


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.where)
def test_a_judge_fits_its_gpus(start, shape):
    split = int(start.option("tensor_parallel_size") * start.option("pipeline_parallel_size"))
    assert split * start.option("data_parallel_size") == start.num_gpus
    tokens = int(start.option("max_model_len", str(JUDGE_TOKENS)))
    assert tokens >= JUDGE_TOKENS
    needed = sum(judge_memory(shape(start.model), tokens, split).values()) / 1e9
    assert needed <= start.gigabytes * start.option("gpu_memory_utilization", "0.9")


def test_a_judge_beside_a_trainer_has_the_share_that_the_doctor_is_told():
    path = ROOT / "examples/flux_kontext_nft_1x80gb.yaml"
    (doctor,) = (words for words in commands(path) if "doctor" in words)
    (served,) = (start for start in STARTS if start.where == path.name)
    told = options_of(doctor)
    share = served.option("gpu_memory_utilization", "0.9")
    assert share * float(told["gpu_memory"]) == float(told["judge_memory"])


def test_waiting_is_longer_than_a_cold_start():
    for name in ("examples/launch/slurm.sbatch", "docker/kubernetes/trainer.yaml", "docker/compose.gpu.yml"):
        (seconds,) = re.findall(r"reward\.wait_seconds=(\d+)", (ROOT / name).read_text())
        assert int(seconds) > COLD_START_SECONDS
    probe = containers()["reward"]["startupProbe"]
    assert COLD_START_SECONDS < probe["periodSeconds"] * probe["failureThreshold"] < int(seconds)


@pytest.mark.parametrize(
    ("gigabytes", "own", "verdict"),
    [
        (80.0, 0.0, "ok .* on each of 2 GPUs .*--tensor-parallel-size 2"),
        (141.0, 0.0, "ok .* on a GPU "),
        (8.0, 0.0, "FAIL .* use larger GPUs"),
        (80.0, 28.0, "FAIL .* gets 28 .*0.35.*--judge-memory"),
    ],
)
def test_the_doctor_says_how_many_gpus_a_judge_needs(shape, gigabytes, own, verdict):
    model = "Qwen/Qwen2.5-VL-32B-Instruct"
    ((mark, line),) = judge_fits(model, shape(model), Gpus(1, gigabytes, 400.0, judge_gigabytes=own))
    assert re.match(verdict, f"{mark} {line}")


def test_files_that_listen_on_the_network_have_a_key():
    slurm_file = (ROOT / "examples/launch/slurm.sbatch").read_text()
    assert slurm_file.index("export REWARD_API_KEY=") < slurm_file.index("--host 0.0.0.0")
    assert any(one["name"] == "REWARD_API_KEY" for one in containers()["reward"]["env"])
    for path in EXAMPLES:
        text = path.read_text()
        assert "--host 0.0.0.0" not in text or "REWARD_API_KEY" in text, path
