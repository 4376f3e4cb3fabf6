import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from edit_r1.shared.errors import RewardRequestRejected, RewardServiceUnavailable
from edit_r1.shared.sources import FileSource
from edit_r1.trainer.rewards.reward_queue import RewardQueue
from edit_r1.trainer.rewards.terms import Term
from edit_r1.trainer.types import EditTask
from tests.support.color_judge import ColorJudge, serving

TASK = EditTask("id", "make it red", (FileSource(Path("x.png")),), None, "adjust", {})
SOURCE = [Image.new("RGB", (16, 16), "white")]


def edits(*colors):
    return [Image.new("RGB", (16, 16), color) for color in colors]


def test_rewards_come_back_in_the_order_of_submission():
    judge = ColorJudge()
    with serving(judge) as url, RewardQueue([Term((url,), "score_logit")]) as queue:
        tickets = [
            queue.submit(TASK, SOURCE, edits((128 + amount, 128, 128), (128, 128, 128)), seed=0) for amount in range(8)
        ]
        rewards = queue.collect(tickets)
    firsts = [reward.values[0] or 0.0 for reward in rewards]
    assert firsts == sorted(firsts)
    assert len(set(firsts)) == 8
    assert all(reward.values[1] == pytest.approx(0.5) for reward in rewards)
    assert judge.tasks_seen == ["adjust"] * 8


def test_a_failed_score_is_missing_and_says_why():
    with serving(ColorJudge(failing=frozenset({1}))) as url, RewardQueue([Term((url,), "score_logit")]) as queue:
        (rewards,) = queue.collect([queue.submit(TASK, SOURCE, edits("red", "red", "blue"), seed=0)])
    assert rewards.values[1] is None
    assert (rewards.values[0] or 0.0) > 0.9
    assert (rewards.values[2] or 1.0) < 0.1
    assert rewards.failures == ("candidate 1: no score in there",)


def test_a_refusal_ends_the_run():
    with serving(ColorJudge(refuse=True)) as url, RewardQueue([Term((url,), "score_logit")]) as queue:
        ticket = queue.submit(TASK, SOURCE, edits("red"), seed=0)
        with pytest.raises(RewardRequestRejected, match="instruction is not wanted"):
            queue.collect([ticket])


def test_a_service_that_stays_away_is_an_error_after_the_deadline():
    with serving(ColorJudge()) as url:
        pass
    told: list[str] = []
    with RewardQueue([Term((url,), "score_logit")], deadline_seconds=2.5, tell=told.append) as queue:
        tickets = [queue.submit(TASK, SOURCE, edits("red", "blue"), seed=0) for _ in range(3)]
        with pytest.raises(RewardServiceUnavailable, match=r"3 of 3 groups have no rewards yet; cannot connect"):
            queue.collect(tickets)
    assert url in told[0]
    assert "of 2.5 s" in told[0]


def test_a_service_that_comes_back_loses_nothing():
    judge, told = ColorJudge(), list[str]()
    with serving(judge) as url, RewardQueue([Term((url,), "score_logit")], tell=told.append) as queue:
        judge.away = True
        tickets = [queue.submit(TASK, SOURCE, edits("red", "blue"), seed=0) for _ in range(3)]
        threading.Timer(2.0, lambda: setattr(judge, "away", False)).start()
        rewards = queue.collect(tickets)
    assert "gone to lunch" in told[0]
    assert all(reward.failures == () for reward in rewards)


def test_a_candidate_has_the_weighted_mean_of_its_rewards_and_none_where_one_is_missing():
    with serving(ColorJudge()) as good, serving(ColorJudge(failing=frozenset({1}))) as picky:
        terms = [Term((good,), "score_logit", "color", weight=3), Term((picky,), "score_logit", "picky")]
        with RewardQueue(terms) as queue:
            (rewards,) = queue.collect([queue.submit(TASK, SOURCE, edits("red", "red", "blue"), seed=0)])
            (alone,) = queue.collect([queue.submit(TASK, SOURCE, edits("red"), seed=0, method="score_logit")])
    assert rewards.values[1] is None
    assert rewards.failures == ("picky: candidate 1: no score in there",)
    assert rewards.parts[1] == {"color": rewards.parts[0]["color"]}
    assert rewards.values[2] == pytest.approx((3 * rewards.parts[2]["color"] + rewards.parts[2]["picky"]) / 4)
    assert alone.values == (rewards.parts[0]["color"],)
    assert alone.parts == ({},)


def test_of_several_services_the_one_that_is_away_is_named():
    judge, told = ColorJudge(), list[str]()
    with serving(judge) as url, serving(ColorJudge()) as other_url:
        terms = [Term((url,), "score_logit", "color"), Term((other_url,), "score_logit", "other")]
        with RewardQueue(terms, deadline_seconds=1.5, tell=told.append) as queue:
            judge.away = True
            ticket = queue.submit(TASK, SOURCE, edits("red"), seed=0)
            with pytest.raises(
                RewardServiceUnavailable, match=rf"at {url} \(color\) after .*: gone to lunch"
            ) as caught:
                queue.collect([ticket])
    assert other_url not in told[0] + str(caught.value)


def test_of_several_services_the_one_that_refuses_is_named():
    with serving(ColorJudge()) as url, serving(ColorJudge(refuse=True)) as picky:
        terms = [Term((url,), "score_logit", "color"), Term((picky,), "score_logit", "picky")]
        with RewardQueue(terms) as queue:
            ticket = queue.submit(TASK, SOURCE, edits("red"), seed=0)
            with pytest.raises(RewardRequestRejected, match=rf"is not wanted \(from {picky} \(picky\)\)"):
                queue.collect([ticket])


def test_one_epochs_rewards_do_not_wait_for_the_next_ones():
    judge = ColorJudge()
    with serving(judge) as url, RewardQueue([Term((url,), "score_logit")], deadline_seconds=20) as queue:
        first = queue.submit(TASK, SOURCE, edits("red"), seed=0)
        queue.collect([first])
        judge.away = True
        second = queue.submit(TASK, SOURCE, edits("red"), seed=0)
        assert len(queue.collect([first])) == 1
        assert not second.done()


def test_requests_are_in_flight_while_the_caller_works():
    judge = ColorJudge()
    with serving(judge) as url, RewardQueue([Term((url,), "score_logit")]) as queue:
        start = time.monotonic()
        ticket = queue.submit(TASK, SOURCE, edits("red"), seed=0)
        assert time.monotonic() - start < 0.1
        while judge.num_groups == 0 and time.monotonic() - start < 10:
            time.sleep(0.01)
        assert judge.num_groups == 1  # scored before the result was collected
        queue.collect([ticket])


def test_leaving_the_queue_stops_its_thread():
    with serving(ColorJudge()) as url, RewardQueue([Term((url,), "score_logit")]) as queue:
        queue.submit(TASK, SOURCE, edits("red"), seed=0)
    assert not [thread for thread in threading.enumerate() if thread.name == "rewards"]
