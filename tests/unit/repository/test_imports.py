"""Each program imports only what is installed on its node; checked in fresh interpreters."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "fastapi", "vllm", "diffusers")
PROGRAMS = ("reward_service", "trainer", "workbench", "worlds")


def imported_with(module: str) -> set[str]:
    """The members of HEAVY and of our PROGRAMS that `import module` (or several, comma-separated) imports."""
    names = (*HEAVY, *(f"edit_r1.{program}" for program in PROGRAMS))
    code = f"import sys, {module}; print(*(n.removeprefix('edit_r1.') for n in {names!r} if n in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "edit_r1.shared.client",
        "edit_r1.shared.config",
        "edit_r1.shared.images",
        "edit_r1.shared.schemas",
        "edit_r1.command",
    ],
)
def test_shared_and_the_command_pull_in_no_program_and_no_torch(module):
    assert imported_with(module) == set()


def test_a_client_pulls_in_no_program_and_no_torch():
    assert imported_with("edit_r1.workbench.clients.score") == {"workbench"}


@pytest.mark.parametrize("module", ["edit_r1.reward_service.app", "edit_r1.reward_service.cli"])
def test_the_service_pulls_in_no_trainer_and_no_vllm(module):
    assert not imported_with(module) & {"diffusers", "trainer", "vllm", "worlds", "torch"}


@pytest.mark.parametrize(
    "module",
    [
        "edit_r1.workbench.evaluation.cli",
        "edit_r1.trainer.cli, edit_r1.trainer.run.preflight, edit_r1.trainer.run.resuming",
    ],
)
def test_judging_and_the_checks_before_a_training_pull_in_no_torch(module):
    assert imported_with(module) <= {"trainer", "workbench"}


def test_training_pulls_in_nothing_of_the_service():
    assert not imported_with("edit_r1.trainer.train, edit_r1.trainer.models.flux_kontext") & {
        "fastapi",
        "reward_service",
        "vllm",
    }


def test_the_transformers_engine_pulls_in_no_vllm():
    assert not imported_with("edit_r1.reward_service.engines.transformers") & {"diffusers", "trainer", "vllm", "worlds"}
