"""The trainer and the real reward service over HTTP: a whole run with a judge with random weights."""

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


def test_several_methods_are_normalised_one_by_one(service_url, tmp_path):
    tiny = TinyRun(tmp_path / "tiny")
    overrides = [
        "epochs=1",
        "data.held_out=null",
        "reward.method=composite",
        "reward.composite={rule: mean, weights: {score_logit: 2, yes_no_logit: 1}}",
    ]
    for name in ("together", "apart"):
        tiny.train(service_url, tmp_path / name, *overrides, f"advantage.per_component={str(name == 'apart').lower()}")
    (together,), (apart,) = (metrics(tmp_path / name) for name in ("together", "apart"))
    assert together["reward/mean"] == pytest.approx(apart["reward/mean"])
    parts = [apart["reward/score_logit_mean"], apart["reward/yes_no_logit_mean"]]
    assert apart["reward/mean"] == pytest.approx((2 * parts[0] + parts[1]) / 3)
    assert "reward/score_logit_mean" not in together
    assert together["optimality/std"] != pytest.approx(apart["optimality/std"], abs=1e-6)
