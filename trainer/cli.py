"""`edit-r1 train CONFIG key=value ...`: the command-line entry point of training.

Everything that can be checked without a model is checked before torch is imported.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edit_r1.shared.errors import EditR1Error
from edit_r1.shared.library_warnings import hush

USAGE = """usage: edit-r1 train CONFIG [key=value ...]

Train an editor. CONFIG is a YAML file; key=value overrides one of its keys, e.g.
    edit-r1 train worlds/shapes/nft.yaml reward.url=http://127.0.0.1:8000 run_dir=runs/x epochs=4
With several processes: accelerate launch --multi_gpu --num_processes 2 -m edit_r1.trainer CONFIG [key=value ...]
(Pass --multi_gpu on CPUs too; without it accelerate starts a single process.)"""
_INTERRUPTED = 130  # 128 + SIGINT, the shell convention


def train(args: list[str]) -> None:
    """Run training. Raises EditR1Error for problems the user can fix; exits with 130 when interrupted."""
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)  # noqa: T201
        return
    try:
        _train(Path(args[0]), args[1:])
    except KeyboardInterrupt:
        print("interrupted; rerun the same command to resume from the last checkpoint", file=sys.stderr)  # noqa: T201
        sys.exit(_INTERRUPTED)


def main() -> None:
    """Entry point of `python -m edit_r1.trainer`, run in every process of `accelerate launch`; only rank 0 prints."""
    hush()
    try:
        train(sys.argv[1:])
    except EditR1Error as error:
        if _is_main():
            print(f"edit-r1: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _train(path: Path, overrides: list[str]) -> None:
    from edit_r1.trainer.config import read_config  # noqa: PLC0415 - the usage line needs no imports
    from edit_r1.trainer.machine.progress import Display  # noqa: PLC0415
    from edit_r1.trainer.run.preflight import preflight  # noqa: PLC0415

    config = read_config(path, overrides)
    display = Display(visible=_is_main())
    inputs = preflight(config, display.say)

    from edit_r1.trainer.train import run_training  # noqa: PLC0415 - torch and diffusers are imported only after the checks

    run_training(config, inputs, display)


def _is_main() -> bool:
    """Whether this is the process that prints; `accelerate launch` sets RANK."""
    return os.environ.get("RANK", "0") == "0"
