"""The steps and their limits. Uses only the standard library; the steps' own imports are the workers'."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.gpu_check.runner import Step

LIMITS = {"kontext": 145.0, "large": 65.0, "judge": 90.0, "compile": 105.0, "demo": 70.0}
"""Seconds by step, together under 8 minutes; the most important step comes first."""


def steps(names: Sequence[str], *, tiny: bool, tflops: float) -> list[Step]:
    """The named steps in the order of LIMITS."""
    options = ("--tflops", str(tflops), *(["--tiny"] if tiny else []))
    worker = (sys.executable, "-m", "benchmarks.gpu_check.worker", *options)
    return [Step(name, (*worker, name), limit) for name, limit in LIMITS.items() if name in names]
