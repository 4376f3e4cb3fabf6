"""Fixtures for most tests of the trainer and of `edit-r1 evaluate`."""

import pytest

from tests.support.color_judge import ColorJudge
from tests.support.color_judge import serving as serving_rewards
from tests.support.openai_judge import OpenAIJudge
from tests.support.serving import serving
from tests.support.tiny_run import TinyRun


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return TinyRun(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def url():
    with serving_rewards(ColorJudge()) as address:
        yield address


@pytest.fixture
def judge():
    """The judge of edited images that `edit-r1 evaluate` queries."""
    return OpenAIJudge()


@pytest.fixture
def asked(judge):
    """Options that select a running judge."""
    with serving(judge.app) as url:
        yield ("--judge-url", f"{url}/v1", "--judge-model", "red-judge", "--judge-retry-seconds", "1")
