"""Atomic file writes: a file exists completely or not at all."""

import os

import pytest

from edit_r1.shared.files import place, whole_file, write_text


def test_a_writer_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    write_text(tmp_path / "new" / "list", "before")

    def write_half():
        with whole_file(tmp_path / "new" / "list") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert (tmp_path / "new" / "list").read_text() == "before"
    write_text(tmp_path / "new" / "list", "after")
    assert (tmp_path / "new" / "list").read_text() == "after"
    assert os.listdir(tmp_path / "new") == ["list"]


def test_a_file_is_placed_again_and_replaced_without_leftovers(tmp_path):
    write_text(tmp_path / "one", "1")
    write_text(tmp_path / "two", "2")
    for name in ("one", "one", "two"):
        place(tmp_path / name, tmp_path / "out" / "shown")
    assert (tmp_path / "out" / "shown").read_text() == "2"
    assert (tmp_path / "one").read_text() == "1"
    assert os.listdir(tmp_path / "out") == ["shown"]
