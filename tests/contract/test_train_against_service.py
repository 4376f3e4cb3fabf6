"""The trainer and the real reward service, joined by HTTP: a whole run against a judge of random weights."""

import pytest

from tests.support.tiny_run import TinyRun, metrics


def test_a_run_against_the_real_service_gets_every_score(service_url, tmp_path):
    tiny = TinyRun(tmp_path / "tiny")
    summary = tiny.train(service_url, tmp_path / "run", "epochs=1")
    assert 0 <= summary["after"]["reward"] <= 1
    (line,) = [line for line in metrics(tmp_path / "run") if "reward/mean" in line]
    assert line["reward/missing_fraction"] == 0
    assert line["reward/std"] > 0


def test_a_method_of_the_service_can_be_chosen(service_url, tmp_path):
    tiny = TinyRun(tmp_path / "tiny")
    rewards = {
        method: tiny.train(service_url, tmp_path / method, "epochs=1", f"reward.method={method}")["before"]["reward"]
        for method in ("score_logit", "yes_no_logit")
    }
    assert rewards["score_logit"] != pytest.approx(rewards["yes_no_logit"], abs=1e-6)
