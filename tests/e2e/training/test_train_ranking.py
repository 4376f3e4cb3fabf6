"""Training on `ranking`: groups reach the service whole, and evaluations, which have no groups, use another method."""

import pytest

from edit_r1.shared.errors import ConfigError
from tests.support.tiny_run import metrics

RANKING = ("epochs=1", "reward.method=ranking", "filter.rule=none")


def test_a_run_is_trained_on_comparisons_and_evaluated_by_scores(tiny, service_url, tmp_path):
    tiny.train(service_url, tmp_path, *RANKING, "evaluation.method=score_logit", "reward.deadline_seconds=60")
    before, epoch, _ = metrics(tmp_path)
    assert epoch["reward/mean"] == pytest.approx(0.5)  # of every group
    assert epoch["reward/group_std"] > 0
    assert epoch["reward/missing_fraction"] == 0
    assert before["eval/reward"] != pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), r"reward\.method = 'ranking' compares the candidates of a group, but an evaluation has one edit per task"),
        (("evaluation.method=ranking",), r"evaluation\.method = 'ranking' compares"),
        (("evaluation.method=vibes",), r"evaluation\.method = 'vibes': the service at .* offers score_logit"),
        (
            ("data.held_out=null", "rollout.group_parts=2"),
            r"reward\.method = 'ranking' .* divided into 2 parts .* set rollout\.group_parts=1",
        ),
        (
            (
                "data.held_out=null",
                "reward.method=score_logit",
                "monitor.second_method=ranking",
                "rollout.group_parts=2",
            ),
            r"monitor\.second_method = 'ranking' .* divided into 2 parts",
        ),
    ],
)
def test_groups_that_would_not_be_whole_are_an_error_at_the_start(tiny, service_url, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        tiny.train(service_url, tmp_path, *RANKING, *settings)
