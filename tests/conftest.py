"""Settings and fixtures for all tests: one thread per process, no Hugging Face Hub, the embedded default world."""

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["HF_DATASETS_CACHE"] = (_cache := tempfile.TemporaryDirectory(prefix="edit-r1-data-")).name

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# The time an example takes depends on how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Shapes and dtypes of the pure files are checked at run time in every test. Before anything imports them.
install_import_hook("edit_r1.trainer.mathematics", "beartype.beartype")

from tests.support.serving import reward_service  # noqa: E402 - after the hook
from tests.support.tiny_judge import save_tiny_judge  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shapes_dir() -> Path:
    """The embedded default world."""
    return ROOT / "worlds" / "shapes"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge with random weights, for tests in which the meaning of a score does not matter."""
    return save_tiny_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="session")
def service_url(tiny_judge: Path) -> Iterator[str]:
    """One running service with that judge for all tests; it never ends an answer by itself, so the limit is low."""
    with reward_service(tiny_judge, max_reasoning_tokens=64) as url:
        yield url
