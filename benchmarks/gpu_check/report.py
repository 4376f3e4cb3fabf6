"""The JSON file of a check as Markdown, for the block `gpu-check` of BENCHMARKS.md.

python -m benchmarks.gpu_check.report [gpu-check.json]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edit_r1.workbench.markdown import table

_HEADINGS = ("step", "measurement", "figures")


def markdown(results: Mapping[str, Any]) -> str:
    """One table of all steps, then the machine and the date."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in machine.items() if name != "card" and value)
    where = f"*{results['date']}: {machine['card'] or 'no NVIDIA GPU'}; {versions.replace('_', ' ')}*"
    return f"{table(_HEADINGS, _rows(results['steps']))}\n\n{where}"


def _rows(steps: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name, step in steps.items():
        yield name, "", f"{step['status']} after {step['seconds']:.0f} s"
        for measurement, figures in step["figures"].items():
            yield "", measurement, _text(figures)


def _text(figures: object) -> str:
    if isinstance(figures, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_text(value)}" for name, value in figures.items())
    if isinstance(figures, list):
        return " ".join(map(_text, figures))
    if isinstance(figures, float):
        return f"{figures:.4g}"
    return "-" if figures is None else str(figures)


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "gpu-check.json")
    print(markdown(json.loads(path.read_text(encoding="utf-8"))))
