"""Proxies of the environment and API keys: the rules, and what a client of a reward service says."""

import asyncio

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edit_r1.shared.client import RewardClient
from edit_r1.shared.connections.api_keys import checked_key, clean_key
from edit_r1.shared.connections.http_clients import client
from edit_r1.shared.connections.proxies import is_loopback, proxy_for
from edit_r1.shared.errors import ConfigError, RewardRequestRejected, RewardServiceUnavailable
from tests.support.color_judge import ColorJudge, serving
from tests.support.serving import free_port

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
HOSTS = ("judge.example.com", "example.com", "notexample.com", "10.1.2.3", "[fd00::1]")
EXCLUSIONS = (
    *("*", "example.com", ".example.com", "judge.example.com:8000", "example.com:9", "10.1.2.3", "fd00::1"),
    *("http://example.com", "all://example.com:8000", "10.0.0.0/8", "EXAMPLE.com", "localhost", " "),
)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in VARIABLES:
        for spelling in (name, name.lower()):
            monkeypatch.delenv(spelling, raising=False)


@settings(max_examples=50)
@given(st.data())
def test_the_proxy_of_an_address_is_the_one_that_httpx_takes(data):
    url = httpx.URL(
        f"{data.draw(st.sampled_from(['http', 'https']))}://{data.draw(st.sampled_from(HOSTS))}"
        f"{data.draw(st.sampled_from(['', ':8000']))}/v1"
    )
    proxies = st.sampled_from(["", "http://proxy-a:3128", "proxy-b:3128"])
    with pytest.MonkeyPatch.context() as environment:
        for name in VARIABLES[:3]:
            spelling = data.draw(st.sampled_from([name, name.lower()]))
            environment.setenv(spelling, data.draw(proxies))
        environment.setenv("NO_PROXY", ",".join(data.draw(st.lists(st.sampled_from(EXCLUSIONS), max_size=2))))
        ours = proxy_for(url)
        with httpx.Client(verify=False) as theirs:  # noqa: S501 - nothing is sent
            pool = vars(theirs._transport_for_url(url))["_pool"]
    wanted = getattr(pool, "_proxy_url", None)
    if wanted is None:
        assert ours is None
    else:
        assert ours is not None
        assert ours.host == f"{wanted.host.decode()}:{wanted.port}"
        assert ours.variable.upper() in VARIABLES


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.8.7", "::1"])
def test_loopback_addresses_are_this_machine(host):
    assert is_loopback(host)
    assert not is_loopback(f"{host}.example.com")


def ready(url):
    async def ask():
        async with RewardClient(url) as service:
            return await service.wait_ready(0)

    return asyncio.run(ask())


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:1", "ftp://x"])
@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
def test_a_service_on_this_machine_is_reached_whatever_the_variables_say(proxy, variable, monkeypatch):
    with serving(ColorJudge()) as url:
        monkeypatch.setenv(variable, proxy)
        assert ready(url).model == "color-judge"


def test_other_services_are_reached_through_the_proxy_which_an_error_names_without_its_password(monkeypatch):
    with serving(ColorJudge()) as url:  # it answers for any host, as a proxy does
        monkeypatch.setenv("HTTP_PROXY", url.replace("http://", "http://user:hush@"))
        assert ready("http://judge.invalid:8000").model == "color-judge"
        proxy = f"the proxy {url.removeprefix('http://')} (HTTP_PROXY)"
        with pytest.raises(RewardRequestRejected) as rejected:
            ready("http://judge.invalid:8000/elsewhere")
    with pytest.raises(RewardServiceUnavailable) as unavailable:
        ready("http://judge.invalid:8000")
    assert f"(through {proxy})" in str(rejected.value)
    assert f"http://judge.invalid:8000 not ready after 0 s: no connection through {proxy}: " in str(unavailable.value)
    assert "hush" not in f"{rejected.value}{unavailable.value!r}{unavailable.value.__cause__!r}"
    assert "serve" not in str(unavailable.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "socks5://user:hush@proxy:1",
            r"ALL_PROXY sets a SOCKS proxy, proxy:1, which needs the package socksio: install",
        ),
        ("ftp://user:hush@proxy", r"ALL_PROXY does not set a usable proxy: expected http://, https:// or socks5://"),
        ("http://user:hush@:3128", r"ALL_PROXY does not set a usable proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_an_error_only_where_it_would_be(address, message, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", address)
    with pytest.raises(ConfigError, match=message) as caught:
        ready("http://judge.invalid")
    assert "add judge.invalid to NO_PROXY" in str(caught.value)
    assert "hush" not in str(caught.value)
    with client(api_key=None, timeout=1.0) as http, pytest.raises(ConfigError, match=message):
        http.get("http://judge.invalid")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(RewardServiceUnavailable, match="http_proxy"):
        ready("http://judge.invalid")


@given(st.text(max_size=12))
def test_a_key_is_sent_without_surrounding_white_space_or_refused_unseen(key):
    stripped = key.strip()
    if (stripped or not key) and all("!" <= character <= "~" for character in stripped):
        assert clean_key(key) == stripped
        assert checked_key(key, "REWARD_API_KEY") == (stripped or None)
    else:
        with pytest.raises(ConfigError, match=r"^REWARD_API_KEY: the key ") as caught:
            checked_key(key, "REWARD_API_KEY")
        assert len(stripped) < 4 or stripped not in str(caught.value)
