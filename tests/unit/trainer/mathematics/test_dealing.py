import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edit_r1.trainer.mathematics.dealing import num_parts, part_ranges


@given(st.integers(1, 30), st.integers(1, 24), st.data())
def test_every_process_gets_work_and_no_number_of_parts_would_end_earlier(num_batches, group_size, data):
    num_processes = data.draw(st.integers(1, num_batches * group_size))
    parts = num_parts(num_batches, group_size, num_processes)
    if num_processes <= num_batches:
        assert parts == 1
        return

    def longest(parts):
        return math.ceil(num_batches * parts / num_processes) * math.ceil(group_size / parts)

    assert num_batches * parts >= num_processes
    assert all(longest(parts) <= longest(other) for other in range(1, group_size + 1))


@given(st.integers(1, 40), st.data())
def test_parts_are_even_and_hold_every_candidate_once(group_size, data):
    parts = part_ranges(group_size, data.draw(st.integers(1, group_size)))
    assert [candidate for part in parts for candidate in part] == list(range(group_size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("num_processes", "parts"), [(6, 1), (24, 1), (48, 2), (72, 3), (288, 12)])
def test_table_5s_groups_on_the_papers_numbers_of_gpus(num_processes, parts):
    assert num_parts(24, 12, num_processes) == parts
