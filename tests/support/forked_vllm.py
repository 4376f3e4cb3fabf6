"""Makes vLLM fork its processes from one that has already imported it, as it does on a GPU.

    with forking(): engine = build_engine("vllm", options)
    python -m tests.support.forked_vllm MODULE ARGUMENT ...     # like `python -m MODULE ARGUMENT ...`

On a CPU, vLLM spawns the engine's core, which spawns its worker; each imports vLLM again, which takes most of the
start-up time. Spawned processes are tested as well (test_service_stays_up).
"""

from __future__ import annotations

import multiprocessing
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock


@contextmanager
def forking() -> Iterator[None]:
    """Inside the block, processes that would be spawned are forked instead, also in the forked processes."""
    method_of = multiprocessing.get_context
    with mock.patch("multiprocessing.get_context", lambda method: method_of("fork" if method == "spawn" else method)):
        yield


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    with forking():
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
