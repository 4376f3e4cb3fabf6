"""Admission: up to the limit, none while draining, and draining waits for running work."""

import asyncio

import pytest

from edit_r1.reward_service.admission import Admission
from edit_r1.reward_service.problems import ProblemError

pytestmark = pytest.mark.anyio


async def test_a_full_house_says_when_to_come_back():
    admission = Admission(max_candidates=10)
    with admission.entered(8):
        with (
            pytest.raises(ProblemError, match="8 candidates are waiting; the limit is 10") as caught,
            admission.entered(3),
        ):
            pass
        assert (caught.value.problem.status, caught.value.headers["Retry-After"]) == (429, "1")
        with admission.entered(2), pytest.raises(ProblemError):
            admission.check()
    with admission.entered(10):
        assert admission.num_candidates == 10
    assert admission.num_candidates == 0


async def test_a_group_larger_than_the_bound_enters_an_empty_house():
    admission = Admission(max_candidates=4)
    with admission.entered(12):
        assert admission.num_candidates == 12


async def test_an_error_inside_frees_the_places():
    admission = Admission(max_candidates=4)
    with pytest.raises(RuntimeError), admission.entered(4):
        raise RuntimeError
    admission.check()


async def test_draining_lets_nobody_in_and_waits_for_those_inside():
    admission = Admission(max_candidates=4)
    with admission.entered(1):
        draining = asyncio.create_task(admission.drain(limit_seconds=10))
        await asyncio.sleep(0)
        with pytest.raises(ProblemError, match="shutting down") as caught:
            admission.check()
        assert caught.value.problem.status == 503
        assert not draining.done()
    await asyncio.wait_for(draining, 1)


async def test_draining_ends_at_its_limit():
    admission = Admission(max_candidates=4)
    with admission.entered(1):
        await asyncio.wait_for(admission.drain(limit_seconds=0.01), 1)
