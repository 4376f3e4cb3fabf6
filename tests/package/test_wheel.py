"""The wheel in dist/ as a user gets it: in separate environments, outside the checkout, from empty directories.

Run with `make package-check`, which also builds the wheel.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.serving import answers, free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
PACKAGES = ("reward_service", "shared", "trainer", "workbench", "worlds")
SAMPLE = "worlds/shapes/samples/00"
CONFIG = "worlds/shapes/nft.yaml"
TINY_EPOCH = ("epochs=1", "groups_per_epoch=2", "group_size=4", "rollout.batch_groups=2", "evaluation.tasks=4")
READY_SECONDS = 240.0

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel, used from an empty directory and without this checkout's variables."""

    home: Path
    empty: Path

    def start(self, program: str, *arguments: object) -> "subprocess.Popen[str]":
        """Start a program from the environment."""
        outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        command = [str(self.home / "bin" / program), *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=self.empty, env=outside, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a program from the environment and wait for it."""
        process = self.start(program, *arguments)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def packaged(self, path: str) -> Path:
        """Installed path of one of the package's files."""
        code = f"from importlib.resources import files; print(files('edit_r1') / {path!r})"
        found = Path(self.run("python", "-c", code).stdout.strip())
        assert found.is_relative_to(self.home)
        return found


@contextmanager
def installed(directory: Path, extras: str) -> Iterator[Environment]:
    """A fresh environment with the wheel and its extras, at the versions of constraints.txt."""
    (wheel,) = DIST.glob("*.whl")
    uv, home, empty = Path(sys.prefix, "bin", "uv"), directory / "venv", directory / "empty"
    empty.mkdir()
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, home], check=True)
    install: list[str | Path] = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        home / "bin/python",
        "--constraint",
        ROOT / "constraints.txt",
    ]
    subprocess.run([*install, f"{wheel}{extras}"], check=True, cwd=empty)
    yield Environment(home, empty)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def full(tmp_path_factory) -> Iterator[Environment]:
    """An environment with everything for a laptop."""
    with installed(tmp_path_factory.mktemp("full"), "[cpu]") as made:
        yield made


@pytest.fixture(scope="session")
def bare(tmp_path_factory) -> Iterator[Environment]:
    """An environment without any extra."""
    with installed(tmp_path_factory.mktemp("bare"), "") as made:
        yield made


@pytest.fixture(scope="session")
def service(full) -> Iterator[str]:
    """The URL of `edit-r1 serve` with the bundled judge."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    process = full.start("edit-r1", "serve", "--port", port)
    try:

        def ready() -> bool:
            assert process.poll() is None, f"the service ended: {process.communicate()[1][-3000:]}"
            return answers(f"{url}/readyz")

        wait_for(ready, READY_SECONDS)
        yield url
    finally:
        process.terminate()
        assert process.communicate(timeout=60) is not None
    assert process.returncode == 0


def tracked(*paths: str) -> set[str]:
    """Files of the checkout that are in git or not ignored by it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *paths]
    names = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    return {name for name in names if (ROOT / name).exists()}


def test_the_wheel_holds_the_packages_whole_and_nothing_else():
    (wheel,) = DIST.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    links = {f"edit_r1/{name}" for name in PACKAGES}
    wanted = (tracked("edit_r1") - links) | {f"edit_r1/{name}" for name in tracked(*PACKAGES)}
    assert {name for name in names if ".dist-info/" not in name} == wanted
    for needed in (CONFIG, "worlds/shapes/judge/model.safetensors", "reward_service/web/page/index.html"):
        assert f"edit_r1/{needed}" in names  # regardless of git


def test_the_sdist_holds_what_is_in_git_and_can_be_tested():
    (sdist,) = DIST.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names - tracked() == {"PKG-INFO"}
    assert (
        tracked(*PACKAGES, "tests", "docs", "Makefile", "constraints.txt", "overrides.txt", "LICENSE", "SECURITY.md")
        <= names
    )
    assert not [name for name in names if name.startswith((".ci", ".cache", "runs"))]


def test_what_it_says_of_itself(bare):
    code = "from importlib.metadata import metadata; import json; print(json.dumps(metadata('edit-r1').json))"
    said = json.loads(bare.run("python", "-c", code).stdout)
    assert said["license_expression"] == "Apache-2.0"
    assert said["author"] == "The Edit-R1 authors"
    assert {"cpu", "ray", "reward", "service", "trainer"} <= set(said["provides_extra"])
    assert said["requires_python"] == "<3.14,>=3.11"
    exact = [one for one in said["requires_dist"] if re.search(r"[^!<>~]==", one.partition(";")[0])]
    assert exact == []  # exact versions are in constraints.txt
    assert "project_url" not in said  # there is no URL yet


def test_help_lists_the_commands(bare):
    shown = bare.run("edit-r1", "--help")
    assert shown.returncode == 0
    assert all(command in shown.stdout for command in ("serve", "train", "score", "doctor"))


def test_serve_answers_a_score(full, service):
    instruction = full.packaged(f"{SAMPLE}/instruction.txt").read_text()
    pictures = ("--source", "source.png", "--candidate", "done.png", "--candidate", "untouched.png")
    named = [word if word.startswith("--") else full.packaged(f"{SAMPLE}/{word}") for word in pictures]
    scored = full.run("edit-r1", "score", "--url", service, *named, "--instruction", instruction)
    assert scored.returncode == 0, scored.stderr
    done, untouched = map(float, re.findall(r" (0\.\d{3}) ", scored.stdout))
    assert done > untouched


def test_train_leaves_a_report_and_the_short_name_goes_on(full, service):
    common = (f"reward.url={service}", "run_dir=run", *TINY_EPOCH)
    trained = full.run("edit-r1", "train", full.packaged(CONFIG), *common)
    assert trained.returncode == 0, trained.stderr
    metrics = (full.empty / "run/metrics.jsonl").read_text()
    lines = [json.loads(line) for line in metrics.splitlines()]
    (reward,) = (line["reward/mean"] for line in lines if "reward/mean" in line)
    assert 0 < reward < 1
    assert lines[-1].keys() >= {"eval/reward", "eval/oracle_success"}
    assert "<svg" in (full.empty / "run/report.html").read_text()
    # As in the README; the run is complete and remains unchanged.
    again = full.run("edit-r1", "train", CONFIG, *common)
    assert again.returncode == 0, again.stderr
    assert (full.empty / "run/metrics.jsonl").read_text() == metrics


def test_score_needs_no_extra(bare):
    shown = bare.run("edit-r1", "score", "--help")
    assert shown.returncode == 0
    assert "--instruction" in shown.stdout


@pytest.mark.parametrize("command", ["serve", "train", "align", "data", "train-judge", "doctor", "evaluate"])
def test_a_command_without_its_extra_names_it_in_a_line(bare, command):
    ended = bare.run("edit-r1", command)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert re.search(r"^edit-r1: this command needs .*; install the extra .*`cpu`", line)


def test_the_bill_of_materials_names_every_pin_that_is_installed():
    bill = json.loads((DIST / "edit-r1.cdx.json").read_text())
    listed = {canonicalize_name(part["name"]): Version(part["version"]) for part in bill["components"]}
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "edit-r1")
    # A build of torch may have a suffix in its version: 2.13.0+cpu.
    here = {canonicalize_name(one.metadata["Name"]): Version(one.version).public for one in metadata.distributions()}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in lines)}
    installed_pins = {name: pin for name, pin in pins.items() if here.get(name) == pin}
    assert len(installed_pins) > 50
    assert {name: listed[name].public for name in installed_pins if name in listed} == installed_pins
