"""The openai engine against a real vLLM API server on the CPU: the same scores as our own engine, or a clear error."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edit_r1.reward_service.engines.base import Engine, EngineOptions
from edit_r1.reward_service.engines.factory import build_engine
from edit_r1.reward_service.engines.remote.compatible import CompatibleEngine
from edit_r1.reward_service.engines.remote.exact import OpenAIEngine
from edit_r1.reward_service.methods import METHODS
from edit_r1.reward_service.scoring.answering import answer_to_the_end
from edit_r1.reward_service.types import Answer, Edit, Question, Score
from edit_r1.shared.errors import ConfigError, EngineError, UnsuitableModelError
from tests.e2e.service.test_engines_exact import EDITS
from tests.support.serving import answers, free_port, wait_for
from tests.support.tiny_judge import save_tiny_judge

START_SECONDS = 180
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCHDYNAMO_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
}


@pytest.fixture(scope="module")
def judge(shapes_dir: Path) -> Path:
    return shapes_dir / "judge"


@pytest.fixture(scope="module")
def server(judge: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running `vllm serve` with the embedded judge; returns its API root."""
    port = free_port()
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    arguments = ["--model", str(judge), "--served-model-name", "the-judge", "--dtype", "float32", "--enforce-eager"]
    limits = [
        "--max-model-len",
        "1024",
        "--limit-mm-per-prompt",
        '{"image": 4, "video": 0}',
        "--no-enable-chunked-prefill",
    ]
    program = [sys.executable, "-m", "tests.support.forked_vllm", "vllm.entrypoints.openai.api_server"]
    line = [*program, *arguments, *limits, "--port", str(port)]
    with log.open("w") as out:
        running = subprocess.Popen(line, stdout=out, stderr=out, env={**os.environ, **ENVIRONMENT})
    try:

        def healthy() -> bool:
            assert running.poll() is None, log.read_text()[-3000:]
            return answers(f"http://127.0.0.1:{port}/health")

        wait_for(healthy, START_SECONDS)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        running.terminate()
        running.wait(30)


def options(judge: Path, server: str) -> EngineOptions:
    return EngineOptions(model=str(judge), dtype="float32", openai_url=server, openai_model="the-judge")


async def scores(engine: Engine, method: str, temperature: float | None = None) -> list[Score]:
    async def one(edit: Edit) -> Score:
        question = METHODS[method].ask(edit)[0]
        spec = replace(question.spec, max_tokens=min(48, question.spec.max_tokens))
        spec = spec if temperature is None else replace(spec, temperature=temperature)
        return METHODS[method].read(edit, [await answer_to_the_end(engine, Question(question.messages, spec))])

    return await asyncio.gather(*(one(edit) for edit in EDITS))


@pytest.fixture(scope="module")
def ours(judge: Path) -> Iterator[Engine]:
    engine = build_engine("transformers", EngineOptions(model=str(judge), dtype="float32"))
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("method", "tolerance"), [("score_logit", 5e-5), ("yes_no_logit", 1e-5), ("score_logit_cot", 1e-4)]
)
def test_scores_are_those_of_our_own_engine(server, judge, ours, method, tolerance):
    theirs = asyncio.run(scores(build_engine("openai", options(judge, server)), method))
    for one, other in zip(asyncio.run(scores(ours, method)), theirs, strict=True):
        assert other.raw_score == pytest.approx(one.raw_score, abs=tolerance)
        assert other.score_mass == pytest.approx(one.score_mass, abs=1e-4)


@pytest.mark.parametrize("method", ["score_logit", "yes_no_logit", "score_logit_cot", "score_sampling"])
def test_without_token_ids_scores_are_nearly_the_same(server, judge, ours, method):
    """The compatible mode knows neither checkpoint nor tokenizer; reasoning is continued by text.

    A label that is not among the 20 most likely tokens is missed: no more than the uncovered mass says.
    """
    temperature = 0.0 if method == "score_sampling" else None
    there = EngineOptions(model="the-judge", openai_url=server, openai_mode="compatible")
    theirs = asyncio.run(scores(build_engine("openai", there), method, temperature))
    for one, other in zip(asyncio.run(scores(ours, method, temperature)), theirs, strict=True):
        missed = other.details.get("uncovered_mass", 0.0)
        assert other.raw_score == pytest.approx(one.raw_score, abs=1e-4 + 5 * missed / (one.score_mass or 1))
        assert other.score_mass == pytest.approx(one.score_mass, abs=1e-4 + missed)
        assert missed < 0.05


def test_a_server_with_token_ids_is_read_exactly_if_its_checkpoint_is_here(server, judge):
    assert isinstance(build_engine("openai", options(judge, server)), OpenAIEngine)
    unknown = EngineOptions(model="the-judge", openai_url=server)
    assert isinstance(build_engine("openai", unknown), CompatibleEngine)
    with pytest.raises(ConfigError, match="needs the server's checkpoint here, but the-judge is none"):
        build_engine("openai", replace(unknown, openai_mode="exact"))


def test_greedy_text_is_that_of_our_own_engine(server, judge, ours):
    theirs = asyncio.run(scores(build_engine("openai", options(judge, server)), "score_sampling", temperature=0.0))
    expected = asyncio.run(scores(ours, "score_sampling", temperature=0.0))
    assert [str(one) for one in theirs] == [str(one) for one in expected]


def test_a_continued_answer_is_exact_or_refused(server, judge):
    """Token ids that do not survive a round trip through text must not be scored as if they were others."""
    engine = build_engine("openai", options(judge, server))
    question = METHODS["score_logit"].ask(EDITS[0])[0]
    exact = engine.chat.encode("want blue")
    letters = tuple(i for letter in "want blue" for i in engine.chat.encode(letter))
    assert letters != exact

    async def ask(prefix: tuple[int, ...]) -> Answer:
        return await engine.generate(question.messages, replace(question.spec, prefix_ids=prefix))

    async def both() -> None:
        assert (await ask(exact)).label_logprobs
        with pytest.raises(EngineError, match="read other token ids than intended"):
            await ask(letters)

    asyncio.run(both())


def test_a_server_of_another_model_is_refused(server, judge, tmp_path):
    with pytest.raises(ConfigError, match="serves the-judge, not gpt"):
        build_engine("openai", replace(options(judge, server), openai_model="gpt"))
    other = save_tiny_judge(tmp_path / "other")
    with pytest.raises(UnsuitableModelError, match="read other token ids than intended"):
        build_engine("openai", options(other, server))


def test_no_server_is_told_at_once(judge):
    gone = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(ConfigError, match=f"no OpenAI-style server at {gone}"):
        build_engine("openai", options(judge, gone))
    with pytest.raises(ConfigError, match="openai_url must be set to"):
        build_engine("openai", EngineOptions(model=str(judge)))
