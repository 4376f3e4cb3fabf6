"""One step in its own process: appends each figure to a file as soon as it is known.

python -m benchmarks.gpu_check.worker [--tiny] [--tflops 990] STEP FILE
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import structlog

from benchmarks.gpu_check.demo import first_epochs
from benchmarks.gpu_check.judging import judge
from benchmarks.gpu_check.training import compiled, kontext, large
from edit_r1.shared.jsonl import append_rows

MEASURE = {"kontext": kontext, "large": large, "judge": judge, "compile": compiled, "demo": first_epochs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--tflops", type=float, default=990.0)
    parser.add_argument("step", choices=MEASURE)
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for name, figures in MEASURE[arguments.step](arguments.tiny, arguments.tflops):
        append_rows(arguments.file, [{name: figures}])


if __name__ == "__main__":
    main()
