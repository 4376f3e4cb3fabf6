"""The service's log contains no secrets."""

import subprocess
import sys

import pytest

A_BUG = """
import sys
from fastapi.testclient import TestClient
from edit_r1.reward_service.app import create_app
from edit_r1.reward_service.cli import configure_logging
from edit_r1.reward_service.settings import Settings

settings = Settings(log_format=sys.argv[1])
configure_logging(settings)
app = create_app(settings)


@app.get("/bug")
def bug() -> None:
    raise RuntimeError("an unforeseen case")


answer = TestClient(app, raise_server_exceptions=False).get("/bug", headers={"Authorization": "Bearer " + sys.argv[2]})
print(answer.status_code, answer.text)
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_bugs_traceback_holds_no_key(form):
    ended = subprocess.run(
        [sys.executable, "-c", A_BUG, form, "sesame"], capture_output=True, text=True, check=True, timeout=240
    )
    assert "an unforeseen case" in ended.stderr
    assert "sesame" not in ended.stderr
    assert ended.stdout.startswith("500")
    assert "unforeseen" not in ended.stdout
