"""The choice of a replica: the same on every machine, evenly spread, and stable when replicas are added or removed."""

from hypothesis import given
from hypothesis import strategies as st

from edit_r1.shared.replicas import REST_SECONDS, Replicas, by_weight

URLS = st.lists(st.integers(0, 50).map(lambda i: f"http://r{i}:8000"), min_size=2, max_size=8, unique=True)
KEYS = [f"source-{i}" for i in range(300)]


@given(URLS, st.randoms(use_true_random=False))
def test_the_order_of_urls_does_not_matter(urls, random):
    shuffled = urls[:]
    random.shuffle(shuffled)
    assert [by_weight(urls, key) for key in KEYS[:20]] == [by_weight(shuffled, key) for key in KEYS[:20]]


@given(URLS)
def test_only_the_keys_of_a_lost_replica_move(urls):
    *rest, lost = urls
    for key in KEYS:
        before = by_weight(urls, key)
        assert by_weight(rest, key) == [url for url in before if url != lost]


def test_keys_are_spread_evenly():
    urls = [f"http://r{i}" for i in range(4)]
    counts = [sum(by_weight(urls, key)[0] == url for key in KEYS) for url in urls]
    assert min(counts) > 0.6 * len(KEYS) / len(urls)


def test_a_pattern_names_several():
    assert Replicas(["http://node{08..10}:8000/"]).urls == tuple(f"http://node{n}:8000" for n in ("08", "09", "10"))
    assert Replicas(["http://{a,b}", "http://[::1]:8000"]).urls == ("http://a", "http://b", "http://[::1]:8000")


def test_a_replica_that_failed_is_asked_last_for_a_while():
    now = 100.0
    replicas = Replicas(["http://a/", "http://b", "http://a"], clock=lambda: now)
    assert replicas.urls == ("http://a", "http://b")
    first, second = replicas.order("k")
    replicas.rest(first)
    assert replicas.order("k") == [second, first]
    now += REST_SECONDS
    assert replicas.order("k") == [first, second]
    replicas.rest(first)
    replicas.wake(first)
    assert replicas.order("k") == [first, second]
