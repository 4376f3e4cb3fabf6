"""Rows are split into batches in order; none is lost, and only a single row may exceed the limit."""

from hypothesis import given
from hypothesis import strategies as st

from edit_r1.reward_service.engines.batches import chunks


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.none() | st.integers(1, 400))
def test_chunks_cover_all_rows_and_keep_the_limit(lengths, limit):
    found = chunks(lengths, limit)
    assert [length for chunk in found for length in lengths[chunk]] == lengths
    for chunk in found:
        rows = lengths[chunk]
        assert limit is None or len(rows) == 1 or max(rows) * len(rows) <= limit
