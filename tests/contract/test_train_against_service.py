"""The trainer and the real reward service over HTTP: a whole run with a judge with random weights."""

import pytest

from edit_r1.shared.errors import RewardServiceError
from tests.support.serving import reward_service
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


def test_a_run_optimises_rewards_of_two_services_with_their_own_keys(service_url, tiny_judge, tmp_path, monkeypatch):
    tiny, run_dir = TinyRun(tmp_path / "tiny"), tmp_path / "run"
    with reward_service(tiny_judge, api_key="sesame") as second_url:
        terms = (
            "{name: judge, method: score_logit, weight: 2}",
            f"{{name: yes_no, url: {second_url}, method: yes_no_logit, api_key_variable: SECOND_KEY}}",
        )
        arguments = (service_url, run_dir, f"reward.terms=[{', '.join(terms)}]")
        monkeypatch.setenv("SECOND_KEY", "guess")
        with pytest.raises(RewardServiceError, match=rf"reward\.terms\.1 \(yes_no\) at {second_url}: .* answered 401"):
            tiny.train(*arguments)
        monkeypatch.setenv("SECOND_KEY", "sesame")
        summary = tiny.train(*arguments)
    lines = [line for line in metrics(run_dir) if "reward/mean" in line]
    assert [line["epoch"] for line in lines] == [1, 2]
    for line in lines:
        assert line["reward/mean"] == pytest.approx((2 * line["reward/judge_mean"] + line["reward/yes_no_mean"]) / 3)
        assert line["reward/judge_missing_fraction"] == line["reward/yes_no_missing_fraction"] == 0
        assert line["reward/judge_std"] > 0
        assert line["reward/yes_no_std"] > 0
    after = summary["after"]
    assert after["reward"] == pytest.approx((2 * after["reward/judge"] + after["reward/yes_no"]) / 3)
    report = (run_dir / "report.html").read_text()
    assert "Mean of each reward" in report
    assert "reward service of yes_no" in report
    assert "sesame" not in report + (run_dir / "config.yaml").read_text()
