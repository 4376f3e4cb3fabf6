"""What most tests of the trainer start from."""

import pytest

from tests.support.color_judge import ColorJudge, serving
from tests.support.tiny_run import TinyRun


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return TinyRun(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def url():
    with serving(ColorJudge()) as address:
        yield address
