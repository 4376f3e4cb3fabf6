"""One service with a random-weight judge for all end-to-end tests of the service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import reward_service
from tests.support.tiny_judge import save_tiny_judge


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="session")
def service_url(tiny_judge: Path) -> Iterator[str]:
    with reward_service(tiny_judge) as url:
        yield url
