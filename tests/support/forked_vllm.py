"""vLLM with its processes forked from one that has imported it, as on a GPU.

    with forking(): engine = build_engine("vllm", options)
    python -m tests.support.forked_vllm MODULE ARGUMENT ...     # as `python -m MODULE ARGUMENT ...`

On a CPU vLLM spawns the engine's core, and that its worker; each imports vLLM anew, which is most of a start's time.
That it works with spawned ones is tested too (test_service_stays_up).
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
    """Whoever asks for processes that are spawned gets forked ones meanwhile; the forked ones do the same."""
    method_of = multiprocessing.get_context
    with mock.patch("multiprocessing.get_context", lambda method: method_of("fork" if method == "spawn" else method)):
        yield


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    with forking():
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
