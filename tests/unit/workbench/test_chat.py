"""Responses of a chat endpoint over real HTTP, and which errors concern one request or the whole command."""

import asyncio
from dataclasses import replace

import pytest

from edit_r1.shared.errors import ConfigError, DataError, EndpointFailed, EndpointRefused, EndpointUnavailable
from edit_r1.workbench.clients.chat import ChatClient, Endpoint, picture_part, text_part
from tests.support.openai_judge import OpenAIJudge
from tests.support.serving import png, serving


@pytest.fixture
def judge():
    return OpenAIJudge()


@pytest.fixture
def url(judge):
    with serving(judge.app) as root:
        yield f"{root}/v1"


def endpoint(url, key=None):
    return Endpoint(url, "red-judge", key, max_in_flight=2, max_tokens=100, retry_seconds=0.5)


def ask(asked, text):
    async def reply():
        async with ChatClient(asked) as client:
            return await client.ask(lambda: [text_part(text), picture_part(png(0))])

    return asyncio.run(reply())


def test_an_answer_has_its_text_and_says_who_gave_it(judge, url):
    reply = ask(endpoint(url), "Rate it as JSON")
    assert reply.text.startswith("```json")
    assert (reply.declined, reply.model) == (None, "red-judge-0001")
    assert judge.bodies == [{"model": "red-judge", "temperature": 0, "max_tokens": 100}]


def test_declining_is_an_answer_without_text(url):
    reply = ask(endpoint(url), "please decline")
    assert (reply.text, reply.declined) == ("", "I would rather not")


@pytest.mark.parametrize(
    ("mood", "trouble", "num_asked"),
    [
        ("filter", (EndpointRefused, "answered 400: the content management policy says no"), 1),
        ("crash", (EndpointFailed, "answered 500: out of memory"), 4),
        ("page", (EndpointFailed, "did not return a chat completion: '<html>welcome"), 4),
    ],
)
def test_a_refusal_is_final_and_a_breakdown_is_tried_again(judge, url, mood, trouble, num_asked):
    error, message = trouble
    patient = replace(endpoint(url), retry_seconds=30.0)
    with pytest.raises(error, match=f"chat/completions {message}"):
        ask(patient, f"please {mood}")
    assert len(judge.texts) == num_asked


def test_who_is_busy_is_asked_until_the_limit(judge, url):
    judge.busy_after = 0
    with pytest.raises(EndpointUnavailable, match=r"gave no answer in \d\.\d s: 503: too busy"):
        ask(endpoint(url), "Rate it")


def test_a_key_is_told_to_nobody_else(judge, url):
    judge.key = "secret"
    assert ask(endpoint(url, "secret"), "Rate it as JSON").text
    with pytest.raises(ConfigError, match="answered 401: wrong key"):
        ask(endpoint(url, "guess"), "Rate it")
    assert "secret" not in repr(endpoint(url, "secret"))


def test_what_makes_the_message_may_fail(url):
    async def reply():
        async with ChatClient(endpoint(url)) as client:
            await client.ask(unreadable)

    def unreadable():
        raise DataError("picture 7.png is gone")

    with pytest.raises(DataError, match=r"7\.png is gone"):
        asyncio.run(reply())
