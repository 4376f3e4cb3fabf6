"""The report of a run on disk."""

import pytest
from PIL import Image

from edit_r1.trainer.records.records import EvaluatedTask, Evaluation, ShownGroup, save_evaluation
from edit_r1.trainer.report.report import write

PICTURE = Image.new("RGB", (4, 4))


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "config.yaml").write_text("epochs: 4\n")
    return tmp_path


def evaluation(epoch, rewards, **metrics):
    tasks = [EvaluatedTask(index=i, instruction=f"t{i}", task="add", reward=r, metrics=metrics) for i, r in rewards]
    return Evaluation(epoch=epoch, tasks=tuple(tasks))


def test_a_run_resumed_with_other_tasks_and_metrics_is_compared_on_what_both_have(run_dir):
    pictures = dict.fromkeys(range(3), (PICTURE, PICTURE))
    save_evaluation(run_dir, evaluation(0, [(0, 0.9), (1, 0.2), (2, 0.4)], kept=0.5, dropped=0.1), pictures)
    save_evaluation(run_dir, evaluation(4, [(1, 0.6), (2, 0.8), (3, 0.1)], new=0.3, kept=0.25), pictures)
    summary = write(run_dir, seconds=1.0)
    assert summary["before"] == pytest.approx({"reward": 0.3, "kept": 0.5})
    assert summary["after"] == pytest.approx({"reward": 0.7, "kept": 0.25})
    html = (run_dir / "report.html").read_text()
    assert "+0.400" in html
    assert "-0.250" in html
    assert html.count('alt="before"') == html.count('alt="after"') == 2


def test_a_reward_that_some_edits_lack_is_compared_over_those_that_have_it(run_dir):
    both, one = {"reward/a": 0.5, "reward/b": 0.2}, {"reward/a": 0.7}
    for epoch, (first, second) in ((0, (both, one)), (4, (both, both))):
        tasks = [
            EvaluatedTask(index=i, instruction="x", task=None, reward=None, metrics=metrics)
            for i, metrics in enumerate((first, second))
        ]
        save_evaluation(run_dir, Evaluation(epoch=epoch, tasks=tuple(tasks)), {})
    summary = write(run_dir, seconds=1.0)
    assert summary["before"] == pytest.approx({"reward": None, "reward/a": 0.6, "reward/b": 0.2})
    assert summary["after"] == pytest.approx({"reward": None, "reward/a": 0.5, "reward/b": 0.2})


def test_candidates_stand_by_reward_with_equals_in_their_order_and_missing_scores_last():
    group = ShownGroup(
        index=0,
        instruction="x",
        task=None,
        source="s",
        candidates=tuple("abcde"),
        rewards=(0.0, None, 0.5, 0.9, 0.5),
        dropped_because=None,
    )
    assert group.best_first == [3, 2, 4, 0, 1]
