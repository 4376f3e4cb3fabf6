"""Compares every scoring method with the oracle as the annotator: prints the first table of `make align` as Markdown.

python -m benchmarks.alignment
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from edit_r1.workbench.alignment.report import TABLE_NAME


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    # Use a new directory, so that nothing is reused and every method's time is measured.
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "edit_r1.worlds.shapes.studies.preferences", "--out", out]
        subprocess.run(command, stdout=sys.stderr, check=True)  # noqa: S603 - our own command
        overall, _, _ = (Path(out) / TABLE_NAME).read_text(encoding="utf-8").partition("\n\n")
    print(overall)
    return 0


if __name__ == "__main__":
    sys.exit(main())
