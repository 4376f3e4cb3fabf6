"""`edit-r1 doctor` as a user sees it: on a run that will go, on one that will not fit, on wrong input."""

import pytest
from typer.testing import CliRunner

from benchmarks.real_sizes import write_kontext
from edit_r1 import app


@pytest.fixture(scope="module")
def kontext(tmp_path_factory):
    """FLUX.1-Kontext at its real size, as configurations."""
    return write_kontext(tmp_path_factory.mktemp("kontext"))


def doctor(tiny, url, *arguments):
    """(exit status, output)."""
    command = ["doctor", str(tiny.config), f"reward.url={url}", f"run_dir={tiny.folder / 'run'}", *arguments]
    ended = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    if ended.exception and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended.exit_code, ended.output


def test_a_run_that_will_go(tiny, url):
    status, output = doctor(tiny, url, "--rehearse")
    assert status == 0, output
    for line in (
        "ok  training on 5 tasks (adjust 3, add 2)",
        "ok  every instruction is read to its end",
        "ok  edits of 32x32",
        "color-judge (numpy), method score_logit",
        "ok  scored a group of 4 (4 scores): the untouched source of 'make it red' is worth 0.",
        "scores/s from 1 replica(s): an epoch's ",
        "ok  one group: rollout",
        "all is well",
    ):
        assert line in output
    assert not (tiny.folder / "run").exists()


def test_a_service_too_slow_for_its_trainer_is_told(tiny, url):
    status, output = doctor(tiny, url, "--gpus", "1", "--tflops", "100000")
    assert status == 0, output
    (line,) = (line for line in output.splitlines() if "the trainer would wait" in line)
    assert line.lstrip().startswith("warn")
    assert line.endswith("replicas, or max_staleness=1")


def test_a_real_model_that_does_not_fit_comes_with_what_to_change(tiny, url, kontext):
    sizes = (
        "groups_per_epoch=24",
        "model.width=512",
        "model.height=512",
        "micro_batch_size=24",
        f"model.path={kontext}",
    )
    status, output = doctor(tiny, url, *sizes, "--gpus", "8", "--gpu-memory", "40")
    assert status == 1
    assert "transformer 11.9 B, text encoders 4.89 B, VAE 0.0838 B parameters" in output
    assert "23.8 GB  transformer" in output
    assert "of 36.8 usable" in output
    assert output.index("text_encoders=offload makes") < output.index("gradient_checkpointing=true makes")
    advice = [line.split()[0] for line in output.splitlines() if " makes it " in line]
    # What it advised makes it fit.
    status, output = doctor(tiny, url, *sizes, *advice, "--gpus", "8", "--gpu-memory", "40")
    assert status == 0, output


def test_every_fault_is_told_not_only_the_first(tiny):
    status, output = doctor(
        tiny, "http://127.0.0.1:1", "model.path=/nowhere", "reward.wait_seconds=0", "data.train=/no"
    )
    assert status == 1
    assert "FAIL  data: cannot read task list /no" in output
    assert "FAIL  model: model.path = '/nowhere' is not a FluxKontextPipeline" in output
    assert "FAIL  reward service: reward service at http://127.0.0.1:1 not ready" in output
    assert "3 checks failed" in output
