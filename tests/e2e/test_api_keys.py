"""Every command refuses a key that it cannot send, names where the key comes from, and does not print it."""

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from edit_r1.command import app
from edit_r1.reward_service.settings import settings_from
from edit_r1.shared.errors import ConfigError
from tests.conftest import ROOT

BAD_KEYS = ("hush hush", "hush\x7fhush", "hüsh-hush", "  \n")
NFT = str(ROOT / "worlds/shapes/nft.yaml")
EDIT = ("--source", "a.png", "--candidate", "b.png", "--instruction", "x")
REWARD = {
    "score": ["score", *EDIT],
    "selftest": ["selftest"],
    "align": ["align", "pairs.jsonl"],
    "edit": ["edit", "run", "--image", "a.png", "--instruction", "x", "--out", "b.png"],
    "train": ["train", NFT],
    "doctor": ["doctor", NFT],
    "serve": ["serve"],
}


def told(arguments):
    with pytest.raises(ConfigError) as caught:
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    message = str(caught.value)
    assert "hush" not in message
    assert "the key " in message
    return message


@pytest.mark.parametrize("key", BAD_KEYS)
@pytest.mark.parametrize("command", REWARD)
def test_a_key_of_the_reward_service(command, key, monkeypatch):
    monkeypatch.setenv("REWARD_API_KEY", key)
    assert ("api_key" if command == "serve" else "REWARD_API_KEY") in told(REWARD[command])


def test_a_key_among_the_settings(monkeypatch):
    monkeypatch.delenv("REWARD_API_KEY", raising=False)
    assert "api_key" in told(["serve", "--api-key", "hush hush"])
    assert "openai_key" in told(["serve", "--openai-key", "hush hush"])
    assert "reward.api_key" in told(["train", NFT, "reward.api_key=hush hush"])
    assert settings_from(["--api-key", " 0123 "]).api_key == SecretStr("0123")
    assert settings_from(["--api-key", ""]).api_key is None


def test_the_key_of_a_chat_endpoint(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "hush hush")
    monkeypatch.setenv("JUDGE_KEY", "hush hush")
    asked = ["--url", "http://127.0.0.1:9", "--model", "m"]
    assert "OPENAI_API_KEY" in told(["data", "rationality", NFT, "--out", "b.jsonl", *asked])
    judge = ["--judge-url", "http://127.0.0.1:9", "--judge-model", "m", "--judge-key-variable", "JUDGE_KEY"]
    assert "JUDGE_KEY" in told(["evaluate", "imgedit", ".", "--pictures", ".", "--out", "b", *judge])


def test_the_key_of_a_term(monkeypatch):
    monkeypatch.setenv("TERM_KEY", "hush hush")
    terms = "reward.terms=[{name: a, method: score_logit, api_key_variable: TERM_KEY}]"
    assert "reward.terms.0.api_key_variable: the variable TERM_KEY" in told(["train", NFT, terms])
