"""Compose files, Kubernetes manifests and Dockerfiles agree with the programs they start; no engine is needed."""

import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from edit_r1.reward_service.settings import Settings
from edit_r1.shared.config import load_config
from edit_r1.shared.replicas import Replicas
from edit_r1.trainer.config import TrainConfig

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = [ROOT / "docker-compose.yml", *sorted((ROOT / "docker").glob("compose.*.yml"))]
MANIFESTS = sorted((ROOT / "docker/kubernetes").glob("*.yaml"))
KUBERNETES_VERSIONS = ("1.30", "1.37")
SETTINGS = {f"REWARD_{name.upper()}" for name in Settings.model_fields}
Document = dict[str, Any]


def documents(manifest: Path) -> list[Document]:
    return list(yaml.safe_load_all(manifest.read_text()))


def containers() -> dict[str, Document]:
    """Name -> container of every pod in the manifests."""
    pods = [
        one["spec"]["template"]["spec"] for path in MANIFESTS for one in documents(path) if "template" in one["spec"]
    ]
    return {container["name"]: container for pod in pods for container in pod["containers"]}


def replicas() -> int:
    _, stateful = documents(ROOT / "docker/kubernetes/reward.yaml")
    return int(stateful["spec"]["replicas"])


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_kubernetes_takes_the_manifests(manifest, version):
    for document in documents(manifest):
        kubernetes_validate.validate(document, version, strict=True)


def test_kubernetes_would_refuse_a_typo():
    _, stateful = documents(ROOT / "docker/kubernetes/reward.yaml")
    stateful["spec"]["replica"] = stateful["spec"].pop("replicas")
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(stateful, KUBERNETES_VERSIONS[0], strict=True)


def test_variables_of_the_service_are_settings():
    found = {variable["name"] for variable in containers()["reward"]["env"]}
    for path in COMPOSE:
        text = re.sub(r"!\w+", "", path.read_text())
        found |= set(yaml.safe_load(text)["services"].get("reward", {}).get("environment", {}))
    assert {name for name in found if name.startswith("REWARD_")} <= SETTINGS
    assert {"REWARD_MODEL", "REWARD_API_KEY", "REWARD_ENGINE"} <= found


def test_the_job_names_an_example_keys_that_exist_and_every_replica():
    arguments = containers()["trainer"]["args"]
    config, *overrides = arguments[arguments.index("edit_r1.trainer") + 1 :]
    settings = load_config(TrainConfig, ROOT / config, overrides)
    expected = [f"http://reward-{i}.reward:8000" for i in range(replicas())]
    assert Replicas(settings.reward.url).urls == tuple(expected)


def test_containers_have_time_for_a_checkpoint():
    (pod,) = (
        one["spec"]["template"]["spec"]
        for one in documents(ROOT / "docker/kubernetes/trainer.yaml")
        if one["kind"] == "Job"
    )
    environment = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert int(environment["PET_SHUTDOWN_TIMEOUT"]) < pod["terminationGracePeriodSeconds"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["trainer"]
    gpu = yaml.safe_load((ROOT / "docker/compose.gpu.yml").read_text())["services"]["trainer"]
    assert compose["stop_grace_period"] == "2m"
    assert int(gpu["environment"]["PET_SHUTDOWN_TIMEOUT"]) < 120


def test_the_example_environment_is_complete():
    wanted = set()
    for path in COMPOSE:
        wanted |= set(re.findall(r"\$\{(\w+)", path.read_text()))
    listed = re.findall(r"^(?:# )?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == wanted - {"COMPOSE_PROJECT_NAME"}  # which compose itself sets


def test_a_copy_of_the_example_environment_overrides_no_overlay_and_has_no_known_key():
    example = dict(re.findall(r"^([A-Z_]+)=([^\s#]*)", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert not {"REWARD_IMAGE", "TRAINER_IMAGE", "TRAIN_CONFIG"} & set(example)
    assert example["REWARD_API_KEY"] == ""


def test_a_read_only_trainer_writes_only_to_its_volumes():
    dockerfile = (ROOT / "docker/trainer.Dockerfile").read_text()
    written = dict(re.findall(r"\b(\w+_(?:DIR|HOME))=(\S+)", dockerfile))
    assert {"TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "WANDB_DIR", "XDG_CACHE_HOME", "HF_HOME"} <= set(written)
    assert all(path.startswith(("/runs", "/models")) for path in written.values())


@pytest.mark.parametrize("dockerfile", sorted((ROOT / "docker").glob("*.Dockerfile")), ids=lambda path: path.stem)
def test_hadolint_has_nothing_to_say(dockerfile):
    linter = Path(sysconfig.get_path("scripts")) / "hadolint"
    ended = subprocess.run(
        [linter, "--failure-threshold", "info", dockerfile], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout
