"""A command that was stopped and restarted writes the same file as one that was not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edit_r1.shared.errors import DataError
from edit_r1.workbench.data_prep.resumable_jobs import (
    Counts,
    Job,
    Outcome,
    ResumableOutput,
    process,
    process_in_order,
    progress_path,
)
from tests.support.data_commands import data, read, row, write
from tests.support.serving import picture

NUM_ITEMS = 8


class StoppedError(Exception):
    """Represents anything that ends a command."""


def outcome(item: int) -> Outcome:
    """No line, one or several, of different lengths, not all ASCII."""
    return Outcome(tuple(f"{item}é{'x' * item}" for _ in range(item % 3)), ("even",) if item % 2 == 0 else ())


def start(job: Job, stop_at: int | None = None, done: list[int] | None = None) -> Counts:
    """Run the job up to an item at which it fails."""

    def step(item: int) -> Outcome:
        if item == stop_at:
            raise StoppedError
        if done is not None:
            done.append(item)
        return outcome(item)

    return process(job, lambda first: range(first, NUM_ITEMS), step, lambda _: None, lambda _: None)


def start_waiting(job: Job, stop_at: int | None = None, done: list[int] | None = None) -> Counts:
    """The same with asynchronous items, of which later ones finish first."""

    async def step(item: int) -> Outcome:
        await asyncio.sleep((NUM_ITEMS - item) * 1e-4)
        if item == stop_at:
            raise StoppedError
        if done is not None:
            done.append(item)
        return outcome(item)

    return asyncio.run(
        process_in_order(
            job,
            lambda first: range(first, NUM_ITEMS),
            step,
            num_waiting=3,
            say=lambda _: None,
            advance=lambda _: None,
        )
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Counts]:
    out = tmp_path_factory.mktemp("whole") / "out.jsonl"
    counts = start(Job("test", out))
    return out.read_bytes(), counts


@pytest.mark.parametrize("go", [start, start_waiting])
@settings(max_examples=60)
@given(stopped_at=st.integers(0, NUM_ITEMS), cut=st.integers(0, 200))
def test_resumed_after_a_cut_at_any_byte_equals_undisturbed(tmp_path_factory, whole, go, stopped_at, cut):
    """Stopped before any item, with the file then truncated anywhere: partial, uncounted or lost lines."""
    job = Job("test", tmp_path_factory.mktemp("run") / "out.jsonl")
    if stopped_at < NUM_ITEMS:
        with pytest.raises(StoppedError):
            go(job, stopped_at)
    else:
        go(job)
    counted = job.out.stat().st_size
    expected, counts = whole
    job.out.write_bytes(expected[:cut])
    done: list[int] = []
    assert go(job, done=done) == counts
    assert job.out.read_bytes() == expected
    num_cut = min(cut, len(expected))
    assert sorted(done) == list(range(stopped_at if num_cut >= counted else 0, NUM_ITEMS))


def test_an_item_is_counted_only_when_its_lines_are_on_disk(tmp_path):
    """At any moment of a kill, the progress is never ahead of the file."""
    job = Job("test", tmp_path / "out.jsonl")
    with ResumableOutput(job, lambda _: None, checkpoint_seconds=0.0) as output:
        for item in range(NUM_ITEMS):
            output.add(outcome(item))
            progress = json.loads(progress_path(job.out).read_text())
            assert progress["counts"]["read"] == item + 1
            assert progress["num_bytes"] == job.out.stat().st_size
            with pytest.raises(DataError, match="is being written by another command"):
                start(job)


def test_a_finished_job_is_not_done_again(tmp_path):
    job, done = Job("test", tmp_path / "out.jsonl"), list[int]()
    assert start(job) == start(job, done=done)
    assert done == []
    with job.out.open("a") as file:
        file.write("mine\n")
    with pytest.raises(DataError, match="was modified after it was finished; pass --restart"):
        start(job)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    picture(0).save(tmp_path / "a.png")
    return write(tmp_path / "in.jsonl", *({"image": "a.png", "words": [{"text": f"word{n}"}]} for n in range(5)))


def test_changed_options_or_input_are_refused_until_a_restart(words):
    out = words.with_name("out.jsonl")
    data("text-edit", words, "--out", out, "--seed", 1)
    before = out.read_bytes()
    assert row(data("text-edit", words, "--out", out, "--seed", 1), "read") == 5
    with pytest.raises(DataError, match=r"out\.jsonl was started with seed=1, now seed=2; .*--restart"):
        data("text-edit", words, "--out", out, "--seed", 2)
    other = write(words.with_name("other.jsonl"), words.read_text())
    with pytest.raises(DataError, match=r"from in\.jsonl, now from other\.jsonl"):
        data("text-edit", other, "--out", out, "--seed", 1)
    words.write_text(words.read_text().replace("word4", "wort4"))
    with pytest.raises(DataError, match=r"was started from another version of in\.jsonl"):
        data("text-edit", words, "--out", out, "--seed", 1)
    boxes = write(words.with_name("boxes.jsonl"), {"image": "a.png", "objects": []})
    with pytest.raises(DataError, match="by the command text-edit, now boxes"):
        data("boxes", boxes, "--out", out)
    assert out.read_bytes() == before
    data("text-edit", words, "--out", out, "--seed", 1, "--restart")
    assert len(read(out)) == 5
    assert out.read_bytes() != before
    out.unlink()
    data("text-edit", words, "--out", out, "--seed", 2)
    assert len(read(out)) == 5


def test_a_file_that_is_not_ours_is_not_touched(words):
    out = words.with_name("out.jsonl")
    out.write_text("precious\n")
    with pytest.raises(DataError, match="exists without a progress file"):
        data("text-edit", words, "--out", out)
    data("text-edit", words, "--out", out, "--restart")
    progress_path(out).write_text("{")
    with pytest.raises(DataError, match=r"progress\.json is unreadable; pass --restart to start over"):
        data("text-edit", words, "--out", out)


def test_drawn_pictures_are_the_same_after_a_stop(tmp_path):
    """The real command, with its file truncated within a line and its progress reset to that point."""
    for name in ("whole", "stopped"):
        data("shapes", "--out", tmp_path / name / "in.jsonl", "--count", 12)
        data("redbox", tmp_path / name / "in.objects.jsonl", "--out", tmp_path / name / "red.jsonl")
    out = tmp_path / "stopped/red.jsonl"
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    progress = json.loads(progress_path(out).read_text())
    progress |= {"num_bytes": len(b"".join(lines[:5])), "finished": False}
    progress["counts"] = {"read": 5, "written": 5, "dropped": {}}
    progress_path(out).write_text(json.dumps(progress))
    out.write_bytes(b"".join(lines[:6]) + lines[6][:10])
    for line in lines[5:]:
        (out.parent / json.loads(line)["image"]).unlink()
    assert row(data("redbox", tmp_path / "stopped/in.objects.jsonl", "--out", out), "written") == 12
    assert out.read_bytes() == whole == (tmp_path / "whole/red.jsonl").read_bytes()
    pictures = {name: sorted((tmp_path / name / "red_images").iterdir()) for name in ("whole", "stopped")}
    assert [one.read_bytes() for one in pictures["whole"]] == [one.read_bytes() for one in pictures["stopped"]]
