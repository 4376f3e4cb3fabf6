"""Runs our commands in separate processes, forked from one that has already imported their dependencies.

    one = Forked("train", *tiny.arguments(url, run_dir));  status, output = one.finish()

Importing torch and diffusers takes half the time of a small training run and most of a service's start-up; this way it
happens only once. The processes are real: they have their own memory and can be killed. Starting them with `python -m`,
accelerate and torchrun is tested separately (test_train_two_processes, test_launch_files).
"""

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.support.serving import free_port, wait_for

T = TypeVar("T")

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "edit_r1.trainer.train",
        "edit_r1.trainer.report.report",
        "edit_r1.reward_service.cli",
        "edit_r1.reward_service.engines.transformers",
    ]
)


class Forked:
    """`edit-r1 COMMAND ...` or `python ...`, as one process or as several ranks of one run.

    Args:
        command: the words of the command, without `edit-r1`.
        num_processes: number of ranks, which get the same environment variables as from torchrun.
        folder: working directory, which is also added to the import path; None: this process's.
        variables: additional environment variables.

    """

    def __init__(
        self, *command: object, num_processes: int = 1, folder: Path | str | None = None, **variables: str
    ) -> None:
        port, self._log = str(free_port()), Path(tempfile.mkstemp(suffix=".log")[1])
        self._processes = []
        for rank in range(num_processes):
            group = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(num_processes),
                "LOCAL_WORLD_SIZE": str(num_processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            environment = {**os.environ, **(group if num_processes > 1 else {}), **variables}
            words = [str(word) for word in command]
            process = _FORKS.Process(target=_run, args=(words, environment, folder, str(self._log)), daemon=True)
            process.start()
            self._processes.append(process)

    @property
    def output(self) -> str:
        """Output of all ranks so far."""
        return self._log.read_text(errors="replace")

    def poll(self) -> int | None:
        """The exit status; None while a rank is running. If one rank fails, the others are killed, as with torchrun."""
        statuses = [process.exitcode for process in self._processes]
        failed = [status for status in statuses if status]
        if failed:
            self.kill()
            return failed[0]
        return None if None in statuses else 0

    def finish(self, timeout: float = 280) -> tuple[int, str]:
        """Wait for the end; returns (exit status, output). Kills it and raises TimeoutError if it takes longer."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"still running after {timeout:g} s:\n{self.output}")
            time.sleep(0.02)
        return status, self.output

    def ended(self, timeout: float = 60) -> list[int]:
        """The ranks' exit statuses, once all have ended by themselves. Raises TimeoutError, and kills the rest."""
        for process in self._processes:
            process.join(timeout)
        if any(process.exitcode is None for process in self._processes):
            self.kill()
            raise TimeoutError(f"still running after {timeout:g} s:\n{self.output}")
        return [int(process.exitcode or 0) for process in self._processes]

    def wait_for(self, what: Callable[[], T], limit_seconds: float = 120.0) -> T:
        """Poll `what` until it is truthy; returns its value. Raises AssertionError if the process ends first."""

        def meanwhile() -> T:
            found = what()
            assert found or self.poll() is None, f"ended too early:\n{self.output}"
            return found

        return wait_for(meanwhile, limit_seconds)

    def send_signal(self, number: signal.Signals, rank: int | None = None) -> None:
        """Send a signal to one rank, or to every running one."""
        for process in self._processes if rank is None else [self._processes[rank]]:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    def kill(self) -> None:
        """Kill all ranks (SIGKILL) and wait until they have exited."""
        self.send_signal(signal.SIGKILL)
        for process in self._processes:
            process.join()


def _run(words: list[str], environment: dict[str, str], folder: Path | str | None, log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.environ.clear()
    os.environ.update(environment)
    if folder is not None:
        os.chdir(folder)
        sys.path.insert(0, str(folder))
    if words[0] == "python":
        _python(words[1:])
        return
    sys.argv = ["edit-r1", *words]
    from edit_r1.command import main

    main()


def _python(words: list[str]) -> None:
    """Do the same as the interpreter with -m MODULE, -c CODE or FILE."""
    option, rest = words[0], words[1:]
    sys.argv = rest if option in ("-m", "-c") else words
    if option == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif option == "-c":
        exec(rest[0], {"__name__": "__main__"})  # noqa: S102 - as `python -c` does
    else:
        runpy.run_path(option, run_name="__main__")
