"""What every test sees: one thread a process, no hub, and the folders of the embedded default."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Shapes and dtypes of the pure files are checked at run time in every test. Before anything imports them.
PURE = ("flow", "solvers", "advantage", "filtering", "objectives.nft")
install_import_hook([f"trainer.{name}" for name in PURE], "beartype.beartype")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shapes_dir() -> Path:
    """The embedded default world."""
    return ROOT / "worlds" / "shapes"
