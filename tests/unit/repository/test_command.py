"""The command itself: errors in one line, and a hint if an extra is missing."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from edit_r1 import command

REAL_FIND_SPEC = importlib.util.find_spec


@pytest.mark.parametrize(
    ("subcommand", "package", "extra"), [("serve", "fastapi", "`reward`"), ("train", "diffusers", "`trainer`")]
)
def test_a_missing_extra_is_named(monkeypatch, capsys, subcommand, package, extra):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else REAL_FIND_SPEC(name, *rest)
    )
    monkeypatch.setattr(sys, "argv", ["edit-r1", subcommand])
    with pytest.raises(SystemExit, match="1"):
        command.main()
    message = capsys.readouterr().err
    assert package in message
    assert extra in message


def test_our_errors_end_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["edit-r1", "train", "no-such.yaml"])
    with pytest.raises(SystemExit, match="1"):
        command.main()
    assert capsys.readouterr().err == "edit-r1: configuration no-such.yaml does not exist\n"
