import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from shared.errors import RewardRequestRejected
from tests.support.color_judge import ColorJudge, serving
from trainer.rewarding import RewardQueue
from trainer.types import EditTask

TASK = EditTask("id", "make it red", (Path("x.png"),), None, "adjust", {})
SOURCE = [Image.new("RGB", (16, 16), "white")]


def edits(*colors):
    return [Image.new("RGB", (16, 16), color) for color in colors]


def test_rewards_come_back_in_the_order_of_submission():
    judge = ColorJudge()
    with serving(judge) as url, RewardQueue(url, method="score_logit") as queue:
        for amount in range(8):
            queue.submit(TASK, SOURCE, edits((128 + amount, 128, 128), (128, 128, 128)), seed=0)
        rewards = queue.collect()
        assert queue.collect() == []
    firsts = [reward.values[0] or 0.0 for reward in rewards]
    assert firsts == sorted(firsts)
    assert len(set(firsts)) == 8
    assert all(reward.values[1] == pytest.approx(0.5) for reward in rewards)
    assert judge.tasks_seen == ["adjust"] * 8


def test_a_failed_score_is_missing_and_says_why():
    with serving(ColorJudge(failing=frozenset({1}))) as url, RewardQueue(url, method="score_logit") as queue:
        queue.submit(TASK, SOURCE, edits("red", "red", "blue"), seed=0)
        (rewards,) = queue.collect()
    assert rewards.values[1] is None
    assert (rewards.values[0] or 0.0) > 0.9
    assert (rewards.values[2] or 1.0) < 0.1
    assert rewards.failures == ("candidate 1: no score in there",)


def test_a_refusal_ends_the_run():
    with serving(ColorJudge(refuse=True)) as url, RewardQueue(url, method="score_logit") as queue:
        queue.submit(TASK, SOURCE, edits("red"), seed=0)
        with pytest.raises(RewardRequestRejected, match="instruction is not wanted"):
            queue.collect()


def test_a_service_that_is_gone_leaves_scores_missing():
    with serving(ColorJudge()) as url:
        pass
    with RewardQueue(url, method="score_logit", retry_seconds=0.5) as queue:
        queue.submit(TASK, SOURCE, edits("red", "blue"), seed=0)
        (rewards,) = queue.collect()
    assert rewards.values == (None, None)
    assert url in rewards.failures[0]


def test_requests_are_in_flight_while_the_caller_works():
    judge = ColorJudge()
    with serving(judge) as url, RewardQueue(url, method="score_logit") as queue:
        start = time.monotonic()
        queue.submit(TASK, SOURCE, edits("red"), seed=0)
        assert time.monotonic() - start < 0.1
        while judge.num_groups == 0 and time.monotonic() - start < 10:
            time.sleep(0.01)
        assert judge.num_groups == 1  # scored before anybody asked for the result
        queue.collect()


def test_leaving_the_queue_stops_its_thread():
    with serving(ColorJudge()) as url, RewardQueue(url, method="score_logit") as queue:
        queue.submit(TASK, SOURCE, edits("red"), seed=0)
    assert not [thread for thread in threading.enumerate() if thread.name == "rewards"]
