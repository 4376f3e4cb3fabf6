"""Both engines against plain transformers, for both judge families: float32, to 1e-5, alone and under load."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

from edit_r1.reward_service.engines.base import Engine, EngineOptions
from edit_r1.reward_service.engines.chat import Chat, images_of
from edit_r1.reward_service.engines.factory import build_engine
from edit_r1.reward_service.methods import METHODS
from edit_r1.reward_service.methods.base import SCORE_LABELS
from edit_r1.reward_service.scoring.answering import answer_to_the_end
from edit_r1.reward_service.types import Answer, Brief, Edit, JudgeImage, Question, Score
from edit_r1.shared.errors import UnparsableAnswerError
from edit_r1.worlds.shapes.studies.edit_sets import corruption_set
from edit_r1.worlds.shapes.world.scenes import Pixels, render, to_image
from tests.support.forked_vllm import forking
from tests.support.tiny_judge import save_random_adapter, save_tiny_qwen3_judge

TOLERANCE = 1e-5
WRITTEN = ("score_logit_cot", "score_sampling", "score_sampling_cot")
ADAPTER = "editscore"
FAMILIES = ("qwen2_5_vl", "qwen3_vl")
ENGINES = ("transformers", "vllm")


def edits() -> list[Edit]:
    """Held-out edits of the embedded world: right, wrong and damaged."""
    held_out = corruption_set(8, 5)
    return [
        Edit(Brief(task.instruction, "None", task.task, (_shown(render(task.source)),)), _shown(edited))
        for task, shown in zip(held_out.tasks, held_out.edits, strict=True)
        for edited in shown
    ]


def _shown(pixels: Pixels) -> JudgeImage:
    return JudgeImage(to_image(pixels), hashlib.sha256(pixels.tobytes()).hexdigest())


EDITS = edits()


@dataclass(frozen=True)
class Judge:
    path: Path
    adapter: Path


@dataclass(frozen=True)
class Observed:
    """An engine's `score_logit` label log-probabilities under different loads, and its answers to other methods."""

    alone: list[tuple[float, ...]]
    together: list[tuple[float, ...]]
    in_a_crowd: list[tuple[float, ...]]
    by_adapter: list[tuple[float, ...]]
    written: dict[str, list[Score | str]]


@pytest.fixture(scope="module")
def judges(shapes_dir, tmp_path_factory) -> dict[str, Judge]:
    folder = tmp_path_factory.mktemp("judges")
    paths = {"qwen2_5_vl": shapes_dir / "judge", "qwen3_vl": save_tiny_qwen3_judge(folder / "qwen3")}
    return {name: Judge(path, save_random_adapter(path, folder / f"{name}-lora")) for name, path in paths.items()}


@pytest.fixture(scope="module")
def observed(judges) -> dict[tuple[str, str], Observed]:
    """(family, engine) -> its answers; each engine is started once."""
    with forking():
        return {
            (family, engine): asyncio.run(observe(engine, judges[family])) for family in FAMILIES for engine in ENGINES
        }


@pytest.fixture(scope="module")
def expected(judges) -> dict[tuple[str, bool], torch.Tensor]:
    """(family, whether the adapter is merged) -> [edits, labels] log-probabilities from plain transformers."""
    return {(family, merged): reference(judges[family], merged) for family in FAMILIES for merged in (False, True)}


async def observe(name: str, judge: Judge) -> Observed:
    options = EngineOptions(model=str(judge.path), dtype="float32", adapters={ADAPTER: judge.adapter})
    engine = await asyncio.to_thread(build_engine, name, options)  # type: ignore[arg-type]
    try:
        alone = [(await ask(engine, [question]))[0] for question in asked()[:6]]
        together = await ask(engine, asked())
        # In reverse order, among requests of another method and of the adapter: vLLM on a CPU once mixed these up.
        crowd = await ask(
            engine,
            [one for trio in zip(asked("yes_no_logit"), asked(), asked(adapter=ADAPTER), strict=True) for one in trio][
                ::-1
            ],
        )
        return Observed(
            alone=read(alone),
            together=read(together),
            in_a_crowd=read(crowd[::-1][1::3]),
            by_adapter=read(crowd[::-1][2::3]),
            written={method: await written(engine, method) for method in WRITTEN},
        )
    finally:
        engine.close()


def asked(method: str = "score_logit", adapter: str | None = None) -> list[Question]:
    questions = [METHODS[method].ask(edit)[0] for edit in EDITS]
    return [replace(one, spec=replace(one.spec, adapter=adapter)) for one in questions]


async def ask(engine: Engine, questions: Sequence[Question]) -> list[Answer]:
    return await asyncio.gather(*(answer_to_the_end(engine, question) for question in questions))


async def written(engine: Engine, method: str) -> list[Score | str]:
    """Scores of a method that writes its answers; the answer itself where it contains no score."""
    short = [replace(one, spec=replace(one.spec, max_tokens=min(48, one.spec.max_tokens))) for one in asked(method)]
    found: list[Score | str] = []
    for edit, answer in zip(EDITS, await ask(engine, short), strict=True):
        try:
            found.append(METHODS[method].read(edit, [answer]))
        except UnparsableAnswerError:
            found.append(answer.text)
    return found


def read(answers: Sequence[Answer]) -> list[tuple[float, ...]]:
    return [answer.label_logprobs[0] for answer in answers]


@torch.inference_mode()
def reference(judge: Judge, merged: bool) -> torch.Tensor:
    processor = AutoProcessor.from_pretrained(judge.path)
    model = AutoModelForImageTextToText.from_pretrained(judge.path, dtype="float32").eval()
    if merged:
        model = PeftModel.from_pretrained(model, str(judge.adapter)).merge_and_unload()
    chat, rows = Chat(processor, "reference"), []
    for question in asked():
        images = [image.pixels for image in images_of(question.messages)]
        inputs = processor(text=[chat.text(question.messages)], images=images, return_tensors="pt")
        logits = model(**inputs).logits[0, -1]
        rows.append(logits.log_softmax(-1)[list(chat.label_ids(SCORE_LABELS))])
    return torch.stack(rows)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
def test_label_probabilities_are_those_of_plain_transformers(observed, expected, family, engine):
    found = observed[family, engine]
    base, merged = expected[family, False].exp(), expected[family, True].exp()
    for company in (found.together, found.in_a_crowd):
        assert torch.tensor(company).exp().sub(base).abs().max() < TOLERANCE
    assert torch.tensor(found.alone).exp().sub(base[: len(found.alone)]).abs().max() < TOLERANCE
    assert torch.tensor(found.by_adapter).exp().sub(merged).abs().max() < TOLERANCE
    # Check that the test can fail: edits and adapter change the log-probabilities by far more.
    base, merged = (expected[family, either].softmax(-1) for either in (False, True))
    assert base.std(0).max() > 1e-3
    assert base.sub(merged).abs().max() > 1e-2


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_is_the_same_alone_together_and_in_a_crowd(observed, family, engine):
    found = observed[family, engine]
    scores = [
        [METHODS["score_logit"].read(edit, [Answer("", (0,), ("",), (row,))]).raw_score / 5 for edit, row in rows]
        for rows in (zip(EDITS, found.together, strict=True), zip(EDITS, found.in_a_crowd, strict=True))
    ]
    alone = [
        METHODS["score_logit"].read(edit, [Answer("", (0,), ("",), (row,))]).raw_score / 5
        for edit, row in zip(EDITS, found.alone, strict=False)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=TOLERANCE)
    assert alone == pytest.approx(scores[0][: len(alone)], abs=TOLERANCE)


def test_the_engines_agree_where_the_score_stands_after_reasoning(observed):
    ours, theirs = (observed["qwen2_5_vl", engine].written["score_logit_cot"] for engine in ENGINES)
    assert len(ours) == len(theirs) == len(EDITS)
    for one, other in zip(ours, theirs, strict=True):
        assert isinstance(one, Score)
        assert isinstance(other, Score)
        assert one.raw_score == pytest.approx(other.raw_score, abs=1e-4)
        assert one.distribution == pytest.approx(other.distribution, abs=1e-4)
        assert one.score_mass == pytest.approx(other.score_mass, abs=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("method", ["score_sampling", "score_sampling_cot"])
def test_sampling_methods_draw_different_scores(observed, engine, method):
    scores = [score.raw_score for score in observed["qwen2_5_vl", engine].written[method] if isinstance(score, Score)]
    assert len(scores) >= 0.9 * len(EDITS)
    assert len(set(scores)) > 2
