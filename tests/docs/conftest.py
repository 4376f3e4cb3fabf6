"""A service with the embedded judge, shared by all pages."""

import pytest

from tests.support.typist import running_service


@pytest.fixture(scope="session")
def judge_url():
    with running_service() as (_, url):
        yield url
