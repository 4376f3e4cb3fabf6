"""The JSON file of a check as Markdown.

    python -m benchmarks.gpu_check.report [gpu-check.json] [--into BENCHMARKS.md]

Prints it, or writes it into the page's block of figures `gpu-check`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.support.figures import replaced
from edit_r1.shared.files import write_text
from edit_r1.workbench.markdown import table

BLOCK = "gpu-check"
_HEADINGS = ("step", "measurement", "figures")


def markdown(results: Mapping[str, Any]) -> str:
    """One table of all steps, then the machine and the date."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in machine.items() if name != "card" and value)
    rate = f"utilisation of {results['data_sheet_tflops']:g} TFLOP/s"
    where = f"*{results['date']}: {machine['card'] or 'no NVIDIA GPU'}; {versions.replace('_', ' ')}; {rate}*"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=Path("gpu-check.json"))
    parser.add_argument("--into", type=Path, metavar="PAGE")
    arguments = parser.parse_args()
    text = markdown(json.loads(arguments.file.read_text(encoding="utf-8")))
    if arguments.into is None:
        print(text)
    else:
        page = arguments.into.read_text(encoding="utf-8")
        write_text(arguments.into, replaced(page, BLOCK, text))


if __name__ == "__main__":
    main()
