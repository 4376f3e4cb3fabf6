"""The chat client at endpoints with the habits of several providers, over real HTTP."""

import asyncio

import pytest

from edit_r1.shared.errors import AccountError, EndpointRefused, EndpointUnavailable
from edit_r1.workbench.clients.chat import ChatClient, Endpoint, text_part
from tests.support.provider import GEMINI, GPT, OLD, REASONING, Habits, Provider
from tests.support.serving import serving

QUOTA = {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": None}}
GEMINI_RATE = [{"error": {"code": 429, "message": "You exceeded your current quota. Please retry in 0.1s."}}]
ARREARS = {"code": "Arrearage", "message": "Access denied, please make sure your account is in good standing."}


def replies(provider, count=1, max_tokens=500):
    async def ask(url):
        endpoint = Endpoint(f"{url}/v1", "some-model", None, max_in_flight=1, max_tokens=max_tokens, retry_seconds=2)
        async with ChatClient(endpoint) as client:
            return [await client.ask(lambda: [text_part("How good is it?")]) for _ in range(count)]

    with serving(provider.app) as url:
        return asyncio.run(ask(url))


@pytest.mark.parametrize(
    ("habits", "accepted"),
    [
        (GPT, {"temperature": 0, "max_tokens": 500}),
        (GEMINI, {"temperature": 0, "max_tokens": 500}),
        (OLD, {"temperature": 0, "max_tokens": 500}),
        (REASONING, {"max_completion_tokens": 500}),
    ],
)
def test_parameters_are_learned_once_from_refusals(habits, accepted):
    provider = Provider(habits)
    first, second = replies(provider, 2)
    assert (first.text, second.text) == ("4", "4")
    assert provider.bodies[-2:] == [{"model": "some-model", **accepted}] * 2
    assert len(provider.bodies) - 2 == len(set(habits.refused) & {"max_tokens", "temperature"})
    assert first.usage.completion_tokens == 1 + habits.thinking_tokens


@pytest.mark.parametrize(
    ("habits", "max_tokens", "found"),
    [
        (Habits(message=lambda _: {"content": None, "reasoning_content": "hm"}), 9, (False, "the model reasoned but")),
        (Habits(message=lambda _: {"content": None}), 9, (False, "an empty answer")),
        (Habits(message=lambda _: {"content": None, "reasoning": "hm"}, finish_reason="length"), 9, (True, None)),
        (Habits(message=lambda _: {}, finish_reason="content_filter: OTHER"), 9, (False, "content_filter: OTHER")),
        (Habits(thinking_tokens=100), 100, (True, None)),
    ],
)
def test_an_answer_without_text_says_why(habits, max_tokens, found):
    (reply,) = replies(Provider(habits), max_tokens=max_tokens)
    cut, declined = found
    assert (reply.text, reply.cut) == ("", cut)
    assert reply.declined == declined or (declined and reply.declined.startswith(declined))


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (402, {"error": {"message": "Insufficient Balance"}}, AccountError),
        (429, QUOTA, AccountError),
        (400, ARREARS, AccountError),
        (400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}], AccountError),
        (200, {"error": {"code": 402, "message": "This request requires more credits"}}, AccountError),
        (403, {"error": {"code": "unsupported_country", "message": "not here"}}, AccountError),
        (403, {"error": {"message": "your input was flagged", "code": 403}}, EndpointRefused),
        (400, {"error": {"code": "content_filter", "message": "the content management policy"}}, EndpointRefused),
        (400, {"error": {"message": "max_tokens is too large", "param": "max_tokens"}}, EndpointRefused),
    ],
)
def test_trouble_of_the_account_is_told_apart_from_a_refused_request(status, body, error):
    provider = Provider(GPT)
    provider.trouble = (status, body, {})
    with pytest.raises(error, match=f"chat/completions answered {402 if status == 200 else status}: "):
        replies(provider)
    assert len(provider.bodies) == 1


def test_a_rate_limit_with_the_words_of_a_quota_is_waited_for():
    provider = Provider(GPT)
    provider.trouble = (429, GEMINI_RATE, {})

    async def relieve():
        while len(provider.bodies) < 2:
            await asyncio.sleep(0.01)
        provider.trouble = None

    async def ask(url):
        endpoint = Endpoint(f"{url}/v1", "some-model", None, max_in_flight=1, max_tokens=9, retry_seconds=20)
        async with ChatClient(endpoint) as client:
            reply, _ = await asyncio.gather(client.ask(lambda: [text_part("How good?")]), relieve())
            return reply

    with serving(provider.app) as url:
        assert asyncio.run(ask(url)).text == "4"


def test_a_server_that_asks_for_more_patience_than_there_is_gets_none():
    provider = Provider(GPT)
    provider.trouble = (429, {"error": {"message": "requests per day"}}, {"Retry-After": "3600"})
    with pytest.raises(EndpointUnavailable, match="429: requests per day"):
        replies(provider)
    assert len(provider.bodies) == 1
