import ast
import inspect

import pytest

from edit_r1.shared.config import dump_config, load_config
from edit_r1.shared.errors import ConfigError
from edit_r1.trainer.config import TrainConfig, check_world_size
from edit_r1.trainer.models.sampling import TrueCfg
from edit_r1.trainer.rewards.terms import terms_of
from edit_r1.trainer.run.true_cfg import check_true_cfg, evaluation_true_cfg, rollout_true_cfg

MINIMAL = ["run_dir=runs/x", "data.train=tasks.jsonl", "model.path=editor"]


def load(*overrides):
    return load_config(TrainConfig, None, [*MINIMAL, *overrides])


def test_defaults_are_table_5():
    config = load()
    assert (config.groups_per_epoch, config.group_size, config.rollout.steps) == (24, 12, 6)
    assert (config.model.width, config.model.height, config.rollout.guidance) == (512, 512, 2.5)
    assert (config.nft.beta, config.nft.kl_weight, config.nft.weighting) == (1.0, 1e-4, "adaptive")
    assert (config.lora.rank, config.lora.alpha, config.optimizer.learning_rate) == (32, 64, 3e-4)
    assert (config.filter.rule, config.filter.tau_mean, config.filter.tau_spread) == ("paper", 0.9, 0.05)
    assert (config.adv_clip, config.old_decay_type, config.ema_decay) == (5.0, 1, 0.9)
    assert config.optimizer_steps_per_epoch == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=3", "epoch: unknown key; did you mean 'epochs'"),
        ("reward.ulr=http://x", r"reward\.ulr: unknown key; did you mean 'url'"),
        ("model.family=flux", "unknown model family; known: flux_kontext"),
        ("group_size=1", "group_size: .*greater than or equal to 2"),
        ("filter.quorum=13", r"filter\.quorum = 13 must be at most group_size = 12"),
        ("trained_timesteps=7", r"trained_timesteps = 7 must be in 1\.\.6"),
        ("optimizer_steps_per_epoch=289", r"optimizer_steps_per_epoch = 289 must be in 1\.\.288"),
        ("filter.rule=papr", "filter.rule: .*'paper', 'strict', 'range' or 'none'"),
        ("model.aspect=fit", "model.aspect: .*'crop', 'buckets' or 'stretch'"),
        ("filter={rule: ban, ban: false}", r"filter\.rule = ban means filter\.rule = paper with filter\.ban = true"),
        ("rollout.group_parts=13", r"rollout\.group_parts = 13 must be auto or in 1\.\.12 \(group_size\)"),
        ("rollout.true_cfg=1", r"rollout\.true_cfg: .*greater than 1"),
        ("evaluation.true_cfg=rollouts", r"evaluation\.true_cfg.*'rollout'"),
        (
            "rollout.negative_prompt=blurry",
            r"rollout\.negative_prompt = 'blurry' must be null without rollout\.true_cfg",
        ),
        (
            "evaluation.negative_prompt=x",
            r"evaluation\.negative_prompt = 'x' must be null without evaluation\.true_cfg",
        ),
        ("checkpoint.minutes=0", r"checkpoint\.minutes: .*greater than 0"),
        ("reward.terms=[]", r"reward: terms = \[\] must hold at least one reward; leave it out"),
        ("reward.terms=[{method: a, name: x}, {method: b, name: x}]", r"reward: terms: the name 'x' is given 2 times"),
        ("reward.terms=[{method: a, name: x, weight: 0}]", r"reward\.terms\.0\.weight: .*greater than 0 \(found 0\)"),
        ("reward.terms=[{method: a, name: x, weight: .inf}]", r"reward\.terms\.0\.weight: .*finite"),
        ("reward.terms=[{method: a, name: x, url: []}]", r"reward\.terms\.0\.url: .*at least 1"),
        ("reward.terms=[{method: a, name: x, wieght: 2}]", r"wieght: unknown key; did you mean 'weight'"),
        (
            "reward.terms=[{method: a, name: second}]",
            r"reward\.terms\.0\.name: must not be one of group, reward, second",
        ),
        ("reward.terms=[{name: x}]", r"reward\.terms\.0\.method: required"),
        (
            "reward={terms: [{method: a, name: x}], method: yes_no_logit}",
            r"reward: method = 'yes_no_logit' must be left out with reward\.terms: set it in each term",
        ),
    ],
)
def test_a_wrong_key_or_value_is_told_with_what_would_be_right(override, message):
    with pytest.raises(ConfigError, match=message):
        load(override)


def test_terms_are_normalised_one_by_one_anyway():
    with pytest.raises(ConfigError, match=r"advantage\.per_component must be false with reward\.terms"):
        load("reward.terms=[{method: a, name: x}]", "advantage.per_component=true")


def test_terms_take_url_and_key_from_the_reward_unless_they_have_their_own(monkeypatch):
    monkeypatch.setenv("OCR_KEY", "sesame")
    own = "{name: ocr, method: b, url: 'http://ocr', weight: 0.5, api_key_variable: OCR_KEY}"
    config = load(f"reward.terms=[{{name: judge, method: a}}, {own}]", "reward.url=http://judge", "reward.api_key=open")
    judge, ocr = terms_of(config.reward)
    assert (judge.url, judge.method, judge.weight, judge.api_key) == (("http://judge",), "a", 1.0, "open")
    assert (ocr.url, ocr.method, ocr.weight, ocr.api_key) == (("http://ocr",), "b", 0.5, "sesame")
    assert "sesame" not in f"{ocr} {config} {dump_config(config)}"
    monkeypatch.delenv("OCR_KEY")
    with pytest.raises(ConfigError, match=r"reward\.terms\.1\.api_key_variable = 'OCR_KEY': .* is not set"):
        terms_of(config.reward)


def test_configurations_from_before_values_were_renamed_are_understood():
    config = load("model.aspect=fixed", "filter.rule=ban")
    assert config.model.aspect == "stretch"
    assert (config.filter.rule, config.filter.ban) == ("paper", True)
    assert load().filter.ban is False


def test_rollouts_do_not_run_ahead_across_checkpoints_by_time():
    with pytest.raises(ConfigError, match=r"max_staleness = 1 must be 0 with checkpoint\.minutes"):
        load("max_staleness=1", "checkpoint.minutes=30")


def test_flow_grpo_does_not_roll_out_with_a_negative_branch():
    with pytest.raises(ConfigError, match=r"rollout\.true_cfg = 4 must be null with algorithm = flow_grpo: the update"):
        load("algorithm=flow_grpo", "rollout.true_cfg=4")
    assert load("algorithm=flow_grpo", "evaluation.true_cfg=4").evaluation_true_cfg == 4


def test_evaluations_have_the_guidance_of_rollouts_unless_they_have_their_own():
    qwen = "model.family=qwen_image_edit"
    assert (rollout_true_cfg(load()), evaluation_true_cfg(load())) == (None, None)
    config = load(qwen, "rollout.true_cfg=4")
    assert rollout_true_cfg(config) == evaluation_true_cfg(config) == TrueCfg(4.0, " ")
    assert evaluation_true_cfg(load(qwen, "rollout.true_cfg=4", "evaluation.true_cfg=null")) is None
    config = load("rollout.true_cfg=4", "rollout.negative_prompt=blurry", "evaluation.true_cfg=2")
    assert evaluation_true_cfg(config) == TrueCfg(2.0, "blurry")
    config = load("evaluation.true_cfg=3", "evaluation.negative_prompt=''")
    assert (rollout_true_cfg(config), evaluation_true_cfg(config)) == (None, TrueCfg(3.0, ""))


@pytest.mark.parametrize("key", ["rollout.true_cfg", "evaluation.true_cfg"])
def test_a_family_without_a_negative_branch_refuses_guidance(key):
    family = "examples.uniworld_style:UniWorldStyle"
    message = rf"{key} = 4 must be null with model\.family = {family}: it has no negative branch"
    with pytest.raises(ConfigError, match=message):
        check_true_cfg(load(f"model.family={family}", f"{key}=4"))
    check_true_cfg(load(f"model.family={family}"))
    check_true_cfg(load(f"{key}=4"))


@pytest.mark.parametrize(("parts", "most"), [("auto", 9), ("1", 3), ("2", 6)])
def test_every_process_needs_a_part_of_a_batch_of_groups(parts, most):
    config = load("groups_per_epoch=5", "group_size=3", "rollout.batch_groups=2", f"rollout.group_parts={parts}")
    check_world_size(config, most)
    with pytest.raises(
        ConfigError, match=rf"{most + 1} processes for .* rollout\.group_parts = {parts}: .* 1\.\.{most};"
    ):
        check_world_size(config, most + 1)


def test_a_resolved_configuration_reads_back_equal_and_holds_no_key(tmp_path, monkeypatch):
    monkeypatch.setenv("REWARD_API_KEY", "secret-of-the-service")
    config = load("lora.targets=[to_q, to_k]", "evaluation.metrics={a: 'b:c'}")
    assert config.reward.api_key == "secret-of-the-service"
    text = dump_config(config)
    assert "secret-of-the-service" not in text
    assert "secret-of-the-service" not in repr(config)
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert load_config(TrainConfig, path) == config


def test_every_field_has_a_sentence():
    undocumented = [
        f"{model.__name__}.{name}" for model in _sections(TrainConfig) for name in _without_docstring(model)
    ]
    assert undocumented == []


def _sections(model):
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            yield from _sections(field.annotation)


def _without_docstring(model):
    (definition,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)
    body = definition.body
    for node, following in zip(body, [*body[1:], None], strict=True):
        documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        is_section = isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).endswith("Config")
        if isinstance(node, ast.AnnAssign) and not documented and not is_section:
            yield ast.unparse(node.target)
