from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edit_r1.shared.errors import DataError
from edit_r1.shared.sources import FileSource
from edit_r1.trainer.machine.processes import share
from edit_r1.trainer.tasks.group_sampler import GroupSampler
from edit_r1.trainer.types import EditTask


def tasks(count):
    return [EditTask(f"id{i}", "x", (FileSource(Path(f"{i}.png")),), None, None, {}) for i in range(count)]


def ids(groups):
    return [group.task.id for group in groups]


@given(num_tasks=st.integers(1, 20), num_groups=st.integers(1, 30), seed=st.integers(0, 10))
def test_every_task_is_seen_equally_often_give_or_take_one(num_tasks, num_groups, seed):
    sampler = GroupSampler(tasks(num_tasks), seed)
    counts = Counter(name for epoch in range(5) for name in ids(sampler.next_groups(epoch, num_groups)))
    seen = [counts[task.id] for task in tasks(num_tasks)]
    assert max(seen) - min(seen) <= 1
    assert sum(seen) == 5 * num_groups


@given(num_groups=st.integers(1, 30), num_processes=st.integers(1, 30), unit=st.integers(1, 5))
def test_shares_are_a_partition_for_any_number_of_processes(num_groups, num_processes, unit):
    groups = GroupSampler(tasks(7), 0).next_groups(1, num_groups)
    shares = [share(groups, rank, num_processes, unit) for rank in range(num_processes)]
    assert sorted(group.index for part in shares for group in part) == list(range(num_groups))
    assert max(map(len, shares)) - min(map(len, shares)) <= unit


@given(num_groups=st.integers(1, 30), num_processes=st.integers(1, 6), unit=st.integers(1, 5))
def test_batches_are_the_same_on_any_number_of_processes(num_groups, num_processes, unit):
    def batches(items):
        return {tuple(items[start : start + unit]) for start in range(0, len(items), unit)}

    items = list(range(num_groups))
    shares = [share(items, rank, num_processes, unit) for rank in range(num_processes)]
    assert set().union(*map(batches, shares)) == batches(items)


@given(stop=st.integers(0, 6), seed=st.integers(0, 5))
def test_a_restored_sampler_goes_on_where_it_was(stop, seed):
    whole = GroupSampler(tasks(5), seed)
    drawn = [ids(whole.next_groups(epoch, 3)) for epoch in range(8)]
    first = GroupSampler(tasks(5), seed)
    for epoch in range(stop):
        first.next_groups(epoch, 3)
    second = GroupSampler(tasks(5), seed)
    second.restore(first.state)
    assert [ids(second.next_groups(epoch, 3)) for epoch in range(stop, 8)] == drawn[stop:]


def test_banned_tasks_do_not_come_again():
    sampler = GroupSampler(tasks(4), 0)
    sampler.ban(["id1", "id3"])
    assert {name for epoch in range(5) for name in ids(sampler.next_groups(epoch, 4))} == {"id0", "id2"}
    assert sampler.state.banned == ("id1", "id3")


def test_when_all_are_banned_the_run_ends_with_a_reason():
    sampler = GroupSampler(tasks(2), 0)
    sampler.ban(["id0", "id1"])
    with pytest.raises(DataError, match="all 2 tasks are banned"):
        sampler.next_groups(1, 2)


def test_seeds_give_different_orders():
    orders = {tuple(ids(GroupSampler(tasks(10), seed).next_groups(1, 10))) for seed in range(5)}
    assert len(orders) == 5
