import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edit_r1.shared.errors import RewardServiceUnavailable
from tests.support.color_judge import ColorJudge, serving
from tests.support.forked import Forked
from tests.support.serving import answers, free_port
from tests.support.tiny_run import metrics

JUDGE = Path(__file__).resolve().parents[3] / "worlds/shapes/judge"


class Service:
    """The real reward service in its own process, always on the same port."""

    def __init__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, stack):
        self.process = Forked("serve", "--model", JUDGE, "--engine", "transformers", "--port", self.port)
        stack.callback(self.process.kill)
        self.process.wait_for(lambda: answers(f"{self.url}/readyz"))

    def kill(self):
        self.process.kill()


def assert_same_run(ours, theirs, step):
    for name in ("policy", "old", "ema"):
        file = f"checkpoints/step-{step}/{name}/pytorch_lora_weights.safetensors"
        left, right = load_file(ours / file), load_file(theirs / file)
        assert all(torch.equal(left[key], right[key]) for key in right), file
    assert metrics(ours) == metrics(theirs)


def test_the_service_is_killed_in_the_middle_of_an_epoch_and_the_run_is_the_same(tiny, tmp_path):
    service, settings = Service(), ("epochs=12", "data.held_out=null", "reward.deadline_seconds=120")
    with ExitStack() as stack:
        service.start(stack)
        tiny.train(service.url, tmp_path / "undisturbed", *settings)
        run_dir = tmp_path / "disturbed"
        trainer = Forked("train", *tiny.arguments(service.url, run_dir, *settings))
        stack.callback(trainer.kill)
        trainer.wait_for((run_dir / "checkpoints/step-1").exists)
        service.kill()
        time.sleep(4)  # it rolls out and requests scores while the service is down
        assert trainer.poll() is None, trainer.output
        service.start(stack)
        status, output = trainer.finish(120)
    assert status == 0, output
    assert f"waiting for the reward service at {service.url}: cannot connect" in output
    assert all(line["reward/missing_fraction"] == 0 for line in metrics(run_dir))
    assert_same_run(run_dir, tmp_path / "undisturbed", 12)


@pytest.mark.parametrize(
    ("num_groups", "evaluation", "step"),
    [(1, "data.held_out=null", 0), (7, "data.held_out=null", 2), (9, "evaluation.every=1", 1)],
    ids=["in the first epoch", "in the third", "in the evaluation after the first"],
)
def test_a_service_that_stays_away_ends_the_run_with_a_checkpoint_and_it_can_go_on(
    tiny, tmp_path, num_groups, evaluation, step
):
    settings = ("epochs=3", evaluation, "checkpoint.every=3", "reward.deadline_seconds=2")
    judge = ColorJudge()
    with serving(judge) as url:
        tiny.train(url, tmp_path / "undisturbed", *settings)
        judge.num_groups, judge.groups_until_away = 0, num_groups
        with pytest.raises(RewardServiceUnavailable, match=r"gave up .* groups have no rewards yet; .*gone to lunch"):
            tiny.train(url, tmp_path / "run", *settings)
        assert (tmp_path / f"run/checkpoints/step-{step}").is_dir()
        judge.groups_until_away = None
        tiny.train(url, tmp_path / "run", *settings)
    assert_same_run(tmp_path / "run", tmp_path / "undisturbed", 3)


def test_rollouts_may_run_ahead_by_as_much_as_they_are_allowed_and_not_across_checkpoints(tiny, tmp_path):
    settings = ("epochs=5", "data.held_out=null", "max_staleness=1", "checkpoint.every=3")
    judge = ColorJudge()
    with serving(judge) as url:
        tiny.train(url, tmp_path / "whole", *settings)
        assert [line["rollout/staleness_epochs"] for line in metrics(tmp_path / "whole")] == [0, 1, 1, 0, 1]
        # Stopped between checkpoints and resumed: the tasks of the started epoch are not lost.
        tiny.train(url, tmp_path / "part", *settings, "epochs=3")
        tiny.train(url, tmp_path / "part", *settings)
    assert_same_run(tmp_path / "part", tmp_path / "whole", 5)
