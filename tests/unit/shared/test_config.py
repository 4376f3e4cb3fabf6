"""Configuration files and overrides: typed, frozen, and with a clear message for every error."""

from typing import Literal

import pytest
from pydantic import Field, ValidationError

from edit_r1.shared.config import ConfigModel, dump_config, load_config
from edit_r1.shared.errors import ConfigError


class Reward(ConfigModel):
    url: str = "http://localhost"
    weights: dict[str, float] = Field(default_factory=dict)


class Filter(ConfigModel):
    spread: Literal["std", "variance"] = "std"


class Run(ConfigModel):
    epochs: int = Field(3, gt=0)
    rate: float = 3e-4
    resume: str | None = None
    reward: Reward = Reward()
    filter: Filter | None = None
    tasks: tuple[str, ...] = ()


def test_overrides_win_over_the_file_and_are_typed(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("epochs: 5\nrate: 1e-3\nreward: {url: 'http://a'}\n")
    overrides = ["reward.url=http://b:1/x=y", "resume=null", "tasks=[add, remove]", "filter.spread=variance"]
    run = load_config(Run, path, [*overrides, "reward.weights={a: 1e-3}"])
    assert (run.epochs, run.rate, run.reward.url, run.resume) == (5, 1e-3, "http://b:1/x=y", None)
    assert (run.tasks, run.filter) == (("add", "remove"), Filter(spread="variance"))
    assert run.reward.weights == {"a": 1e-3}


def test_every_fault_is_listed_with_the_nearest_name():
    with pytest.raises(ConfigError) as caught:
        load_config(Run, None, ["epoch=4", "reward.urll=x", "filter.spred=std", "rate=fast", "epochs=0"])
    message = str(caught.value)
    assert "epoch: unknown key; did you mean 'epochs'?" in message
    assert "reward.urll: unknown key; did you mean 'url'?" in message
    assert "filter.spred: unknown key; did you mean 'spread'?" in message
    assert "rate: " in message
    assert "(found 'fast')" in message
    assert "epochs: Input should be greater than 0 (found 0)" in message


def test_an_unknown_key_without_a_near_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"zzzz: unknown key; known: epochs, filter, rate, resume, reward, tasks"):
        load_config(Run, None, ["zzzz=1"])


class Service(ConfigModel):
    key: str | None = Field(default=None, repr=False)
    key_variable: str = ""


class Client(ConfigModel):
    service: Service = Service()


@pytest.mark.parametrize("text", ["12345678", "0123", "1e3", "true", "[abc", "*abc", "a: b", "'0123'"])
def test_a_secret_on_the_command_line_is_its_text(text):
    assert load_config(Client, None, [f"service.key={text}"]).service.key == text.strip("'")


@pytest.mark.parametrize("text", ["12345678", "[hush]", "{a: hush}", "&hush", "*hush", "!hush", "'hush", "hush: hush"])
def test_no_message_shows_a_secret(text, tmp_path):
    path = tmp_path / "client.yaml"
    path.write_text(f"service:\n  key: {text}\n  key_variable: 3\n")
    for overrides in (
        [],
        [f"service={{key: {text}, key_variable: 3}}"],
        [f"service.key.deeper={text}", "service.key_variable=3"],
        [f"service.key: {text}"],
        ["service.key=a", f"service.key.b={text}"],
        [f"service='key {text}'"],
        [f"service=[key, {text}]"],
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(Client, path if not overrides else None, overrides)
        assert "hush" not in f"{caught.value}{caught.value.__cause__}"
        assert "12345678" not in f"{caught.value}{caught.value.__cause__}"


def test_other_values_are_shown():
    with pytest.raises(ConfigError, match=r"service\.key_variable: .*string \(found 3\)"):
        load_config(Client, None, ["service.key_variable=3"])


@pytest.mark.parametrize("override", ["epochs", "=3", ".a=3", "epochs.x=3", "reward.={", "rate={"])
def test_malformed_overrides(override):
    with pytest.raises(ConfigError, match="override"):
        load_config(Run, None, ["epochs=2", override])


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\tx"])
def test_malformed_files(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_config(Run, path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read configuration .*nope\.yaml"):
        load_config(Run, tmp_path / "nope.yaml")


def test_the_resolved_configuration_reads_back(tmp_path):
    run = load_config(Run, None, ["epochs=7", "filter.spread=variance", "tasks=[add]"])
    (tmp_path / "resolved.yaml").write_text(dump_config(run))
    assert load_config(Run, tmp_path / "resolved.yaml") == run


def test_configurations_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Run().epochs = 4  # type: ignore[misc]
