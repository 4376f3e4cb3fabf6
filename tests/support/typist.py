"""Types a page's commands like a user, in order, in one directory; returns the exit status and the output.

    with typist(service_url) as type_blocks: status, output = type_blocks(blocks, folder)

The directory is a copy of the repository, so that the checkout stays clean. bash runs the blocks unchanged, except for
these differences:
- `.venv/bin/python`, `edit-r1` and `accelerate` are stand-ins that run the command in a process forked from one that
  has imported torch (tests/support/forked.py); all other programs in .venv are the interpreter's own.
- http://127.0.0.1:8000 is replaced by the address of a running service with the embedded judge.
- `edit-r1 serve` is started on a free port and stopped as soon as it is ready.
- Training commands get OVERRIDES, so that they take seconds.
- REWARD_URL also points to that service, for commands without an address.
- curl fails on error responses; a command that fails, or takes longer than three minutes, ends the page.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.forked import Forked
from tests.support.pages import ROOT, Block
from tests.support.serving import answers, free_port

OVERRIDES = (
    "epochs=1",
    "groups_per_epoch=2",
    "group_size=4",
    "rollout.steps=2",
    "rollout.batch_groups=1",
    "trained_timesteps=1",
    "data.held_out=null",
    "reward.wait_seconds=5",
)
"""Overrides that keep a page's training short: one epoch of two groups of four, without evaluation."""

DOCUMENTED_URL = "http://127.0.0.1:8000"
TypeBlocks = Callable[[Sequence[Block], Path], tuple[int, str]]

_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "runs", ".cache", "__pycache__", ".*_cache", "node_modules", "site")
_LIMIT_SECONDS = 180.0
"""Time limit of one command."""
_STAND_INS = ("edit-r1", "python", "accelerate")
_STAND_IN = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect({address!r})
    words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    asking.sendall(json.dumps([words, os.getcwd(), dict(os.environ)]).encode() + b"\\n")
    status, output = json.load(asking.makefile())
sys.stdout.write(output)
sys.exit(status)
"""
_PRELUDE = r"""set -Eeuo pipefail
trap 'echo "$block: exit status $?: $BASH_COMMAND"' ERR
curl() { command curl --fail-with-body --silent --show-error "$@"; }
make() { echo "make $*: a comment must say what covers it: <!-- not run: runs for minutes (...) -->"; false; }
"""


@contextmanager
def typist(service_url: str) -> Iterator[TypeBlocks]:
    """A function that types blocks in a folder made by `copy_of_the_repository`."""
    with tempfile.TemporaryDirectory() as directory:
        address = f"{directory}/commands"
        with socketserver.ThreadingUnixStreamServer(address, _Commands) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield lambda blocks, folder: _type(blocks, folder, service_url, address)
            finally:
                server.shutdown()


def copy_of_the_repository(folder: Path) -> Path:
    """Copy the repository without .git, environments, caches and runs."""
    return shutil.copytree(ROOT, folder, ignore=_LEFT_OUT)


def short(command: Sequence[str]) -> list[str]:
    """The `edit-r1` command; training commands get the OVERRIDES."""
    helps = {"-h", "--help"} & set(command)
    return [*command, *OVERRIDES] if command[0] == "train" and len(command) > 1 and not helps else list(command)


def _type(blocks: Sequence[Block], folder: Path, url: str, address: str) -> tuple[int, str]:
    _install(folder / ".venv" / "bin", address)
    script = [_PRELUDE]
    for number, block in enumerate(blocks):
        text = block.text.replace(DOCUMENTED_URL, url)
        script.append(f"block={block}")
        if block.note is not None:  # a file for the reader to write
            path = folder / block.note[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif block.kind == "python":
            (folder / f".block-{number}.py").write_text(text)
            script.append(f"python .block-{number}.py")
        elif block.kind == "bash":
            script.append(_without_prompts(text))
    variables = {"PATH": f"{folder}/.venv/bin:{os.environ['PATH']}", "REWARD_URL": url, "COLUMNS": "200"}
    ended = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout


def _without_prompts(text: str) -> str:
    """Extract the commands (after `$ `) from a console transcript; other texts are unchanged."""
    lines = text.splitlines()
    if not any(line.startswith("$ ") for line in lines):
        return text
    return "\n".join(line[2:] for line in lines if line.startswith(("$ ", "> ")))


def _install(directory: Path, address: str) -> None:
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    for program in Path(sys.executable).parent.iterdir():
        if program.name not in _STAND_INS:
            (directory / program.name).symlink_to(program)
    for name in _STAND_INS:
        stand_in = directory / name
        stand_in.write_text(_STAND_IN.format(python=sys.executable, address=address))
        stand_in.chmod(0o755)


class _Commands(socketserver.StreamRequestHandler):
    """Runs the command of one stand-in."""

    def handle(self) -> None:
        words, folder, variables = json.loads(self.rfile.readline())
        try:
            answer = _run(words, Path(folder), variables)
        except Exception as error:
            answer = (1, f"{error!r}\n")
        self.wfile.write(json.dumps(answer).encode())


def _run(words: list[str], folder: Path, variables: dict[str, str]) -> tuple[int, str]:
    program, *rest = words
    num_processes = 1
    if program == "accelerate":
        num_processes = int(rest[rest.index("--num_processes") + 1])
        program, rest = "python", rest[rest.index("-m") :]
    if program == "python":
        as_ours = {"edit_r1.trainer": ["train"], "edit_r1": []}
        if rest[0] != "-m" or rest[1] not in as_ours:
            return Forked("python", *rest, num_processes=1, folder=folder, **variables).finish(_LIMIT_SECONDS)
        rest = [*as_ours[rest[1]], *rest[2:]]
    if rest[:1] == ["serve"] and "--help" not in rest:
        return _serve(rest[1:], folder, variables)
    return Forked(*short(rest), num_processes=num_processes, folder=folder, **variables).finish(_LIMIT_SECONDS)


def _serve(options: list[str], folder: Path, variables: dict[str, str]) -> tuple[int, str]:
    """Start a service, wait until it is ready, and stop it; our port overrides one in the options."""
    with running_service(*options, folder=folder, **variables) as (service, _):
        pass
    return service.finish()


@contextmanager
def running_service(*options: object, folder: Path = ROOT, **variables: str) -> Iterator[tuple[Forked, str]]:
    """A ready `edit-r1 serve` on a free port; yields the process and its URL, and stops it afterwards."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    service = Forked("serve", *options, "--port", port, num_processes=1, folder=folder, **variables)
    try:
        service.wait_for(lambda: answers(f"{url}/readyz"))
        yield service, url
    finally:
        service.send_signal(signal.SIGTERM)
        service.finish()
