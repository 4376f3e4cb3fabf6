"""The service under adverse conditions: clients that disconnect, stall or arrive in bursts; a killed engine."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.serving import answers, free_port, metric, png, reward_service, wait_for
from tests.support.typist import running_service

ROOT = Path(__file__).resolve().parent.parent.parent.parent
SLOW = {"instruction": "x", "method": "score_logit_cot"}


def body_of(num_candidates: int, **data: str) -> httpx.Request:
    files = [("source", png(0)), *(("candidates", png(i)) for i in range(num_candidates))]
    return httpx.Request("POST", "http://x/v1/score", data={"instruction": "x", **data}, files=files)


def post(url: str, request: httpx.Request, **headers: str) -> httpx.Response:
    content = request.read()
    return httpx.post(f"{url}/v1/score", content=content, headers={**request.headers, **headers}, timeout=60)


def send_raw(url: str, request: httpx.Request) -> socket.socket:
    """Send a request's bytes on our own socket, so that we can disconnect or stall."""
    address = httpx.URL(url)
    connection = socket.create_connection((address.host, address.port or 80))
    content = b"".join(request.stream)  # type: ignore[arg-type]
    head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: {request.headers['content-type']}\r\n"
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return connection


@pytest.fixture(scope="module")
def url(tiny_judge) -> Iterator[str]:
    # Batches of two, so that many candidates are waiting when a client disconnects.
    with reward_service(tiny_judge, max_batch=2, max_reasoning_tokens=60) as url:
        yield url


def test_a_client_that_hangs_up_takes_its_work_with_it(url):
    before = metric(url, "reward_engine_answers_total")
    connection = send_raw(url, body_of(60, method="score_logit_cot"))
    wait_for(lambda: metric(url, "reward_candidates_in_flight") == 60)
    connection.close()
    wait_for(lambda: metric(url, "reward_candidates_in_flight") == 0, 5)
    answer = httpx.post(
        f"{url}/v1/score", data={"instruction": "x"}, files=[("source", png(0)), ("candidates", png(1))]
    )
    assert answer.json()["results"][0]["status"] == "ok"
    assert metric(url, 'reward_refusals_total{code="client_gone"}') >= 1
    # Each answer of that group takes at least one; most were never generated.
    assert metric(url, "reward_engine_answers_total") - before < 60


def test_the_deadline_takes_the_work_with_it(tiny_judge):
    with reward_service(tiny_judge, max_batch=2, request_seconds=0.5, max_reasoning_tokens=100) as url:
        answer = post(url, body_of(60, **SLOW))
        assert (answer.status_code, answer.json()["code"]) == (503, "deadline_exceeded")
        assert answer.headers["Retry-After"]
        wait_for(lambda: metric(url, "reward_candidates_in_flight") == 0, 2)
        wait_for(lambda: metric(url, "reward_engine_waiting") == 0, 2)


def test_a_body_that_trickles_holds_no_place_and_ends_at_the_deadline(tiny_judge):
    with reward_service(tiny_judge, request_seconds=1.0) as url:
        address = httpx.URL(url)
        with socket.create_connection((address.host, address.port or 80)) as connection:
            head = "POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: 100000\r\n\r\n{{".encode())
            time.sleep(0.3)
            assert metric(url, "reward_candidates_in_flight") == 0
            connection.settimeout(5)
            assert b"deadline_exceeded" in connection.recv(65536)


def test_two_hundred_clients_at_once_all_get_their_scores(url):
    async def crowd() -> list[float]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

            async def score(seed: int) -> float:
                files = [("source", png(0)), ("candidates", png(seed % 7))]
                answer = await client.post("/v1/score", data={"instruction": "x"}, files=files)
                assert answer.status_code == 200, answer.text
                return float(answer.json()["results"][0]["score"])

            return await asyncio.gather(*(score(i) for i in range(200)))

    scores = asyncio.run(crowd())
    for first, again in zip(scores[:7], scores[7:14], strict=True):
        assert first == pytest.approx(again, abs=1e-5)
    assert len({round(score, 4) for score in scores}) == 7


def test_a_reader_that_dawdles_delays_nobody(url):
    slow = send_raw(url, body_of(20))
    started = time.monotonic()
    for _ in range(3):
        assert post(url, body_of(1)).status_code == 200
    assert time.monotonic() - started < 5
    slow.settimeout(5)
    found = b""
    while b'"timing_ms"' not in found:
        found += slow.recv(64)
    slow.close()


def test_junk_on_the_wire_is_refused_and_forgotten(url):
    address = httpx.URL(url)
    for junk in (b"\x00" * 1000, b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/score HTTP/1.1\r\n" + b"A: " + b"b" * 200_000):
        with socket.create_connection((address.host, address.port or 80)) as connection:
            connection.sendall(junk)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(5)
            assert connection.recv(4096)[9:12] in (b"400", b"431", b"")
    assert httpx.get(f"{url}/readyz").status_code == 200


def test_metrics_show_every_stage(url):
    post(url, body_of(2))
    for stage in ("receive", "decode", "queue", "engine", "total"):
        assert metric(url, f'reward_request_seconds_count{{stage="{stage}"}}') >= 1
    assert metric(url, 'reward_engine_pictures_total{cache="hit"}') > 0


@contextmanager
def on_vllm(judge: Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A ready `edit-r1 serve` with vLLM in spawned (not forked) processes, and its address."""
    port = free_port()
    line = [
        sys.executable,
        "-m",
        "edit_r1",
        "serve",
        "--model",
        judge,
        "--engine",
        "vllm",
        "--port",
        port,
        "--calibration",
        "none",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as out:
        running = subprocess.Popen(
            list(map(str, line)), cwd=ROOT, stdout=out, stderr=out, env=environment, start_new_session=True
        )

    def ready() -> bool:
        assert running.poll() is None, log.read_text()[-3000:]
        return answers(f"http://127.0.0.1:{port}/readyz")

    try:
        wait_for(ready, 240)
        yield running, f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):  # when all have ended
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def test_a_killed_engine_ends_the_service_with_an_error(tiny_judge, tmp_path):
    """kill -9 of vLLM's engine process under load: clients get errors and the service exits within seconds."""
    with on_vllm(tiny_judge, tmp_path / "service.log") as (running, url):
        assert metric(url, "vllm:") > 0
        statuses: list[tuple[int, str]] = []

        def load() -> None:
            while True:
                try:
                    answer = post(url, body_of(12))
                except httpx.TransportError:
                    return
                statuses.append((answer.status_code, answer.json().get("code", "")))

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_for(lambda: statuses, 60)
        engines = [
            child for child in psutil.Process(running.pid).children(recursive=True) if "EngineCore" in child.name()
        ]
        killed = time.monotonic()
        for engine in engines or psutil.Process(running.pid).children(recursive=True):
            os.kill(engine.pid, signal.SIGKILL)
        assert running.wait(20) != 0
        assert time.monotonic() - killed < 15
        for thread in threads:
            thread.join(30)
        assert {status for status, _ in statuses} <= {200, 503}
        refused = {code for status, code in statuses if status == 503}
        assert refused <= {"engine_died", "failed"}


def test_the_json_log_names_the_clients_request(tiny_judge):
    with running_service(
        "--model", tiny_judge, "--calibration", "none", "--engine", "transformers", "--log-format", "json"
    ) as (running, url):
        answer = post(url, body_of(2), **{"X-Request-ID": "my-step-7"})
        assert answer.headers["X-Request-ID"] == answer.json()["id"] == "my-step-7"
        refused = httpx.post(f"{url}/v1/score", content=b"{", headers={"Content-Type": "application/json"})
        assert refused.headers["X-Request-ID"]
    lines = [json.loads(line) for line in running.output.splitlines()]
    (scored,) = [line for line in lines if line["event"] == "scored"]
    assert (scored["request_id"], scored["candidates"], scored["failed"]) == ("my-step-7", 2, {})
    (said,) = [line for line in lines if line["event"] == "refused"]
    assert (said["code"], said["request_id"]) == ("malformed_json", refused.headers["X-Request-ID"])
