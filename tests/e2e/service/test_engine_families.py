"""Judges of other families: both engines give the label probabilities of plain transformers."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from edit_r1.reward_service.engines.base import EngineName, EngineOptions
from edit_r1.reward_service.engines.chat import Chat, images_of
from edit_r1.reward_service.engines.factory import build_engine
from edit_r1.reward_service.methods import METHODS
from edit_r1.reward_service.methods.base import SCORE_LABELS
from edit_r1.reward_service.types import Answer, Brief, Edit, JudgeImage, Question
from edit_r1.shared.errors import UnsuitableModelError
from tests.support.forked_vllm import forking
from tests.support.other_judges import FAMILIES, save_judge
from tests.support.serving import picture

TOLERANCE = 1e-4
ON_VLLM = "internvl"
"""The family that is started on vLLM as well; the others were, by hand (docs/reward-service.md)."""
BEGUN = "The score"
"""Start of an answer that a method gives."""


def shown(seed: int, side: int) -> JudgeImage:
    return JudgeImage(picture(seed, side), f"{seed}-{side}")


EDITS = [
    Edit(
        Brief(f"change the {color} circle to yellow" + " please" * i, "None", "default", (shown(i % 2, 48),)),
        shown(9 + i, side),
    )
    for i, (color, side) in enumerate([("red", 32), ("green", 48), ("blue", 80), ("red", 64)])
]


def asked(chat: Chat) -> list[Question]:
    """Questions of which every second one has an answer begun for it."""
    questions = [METHODS["score_logit"].ask(edit)[0] for edit in EDITS]
    begun = chat.encode(BEGUN)
    return [replace(one, spec=replace(one.spec, prefix_ids=begun if i % 2 else ())) for i, one in enumerate(questions)]


async def observe(engine: EngineName, directory: Path) -> tuple[list[Answer], ...]:
    """Answers of one token, and of several sampled ones."""
    built = await asyncio.to_thread(build_engine, engine, EngineOptions(str(directory), dtype="float32"))
    try:
        questions = asked(built.chat)
        written = [
            replace(one, spec=replace(one.spec, max_tokens=6, temperature=1.0, seed=i))
            for i, one in enumerate(questions)
        ]
        return tuple(
            [
                await asyncio.gather(*(built.generate(one.messages, one.spec) for one in each))
                for each in (questions, written)
            ]
        )
    finally:
        built.close()


@torch.inference_mode()
def reference(directory: Path) -> torch.Tensor:
    """[edits, labels] probabilities given that the answer is a label, from plain transformers, one edit at a time."""
    processor = AutoProcessor.from_pretrained(directory)
    model = AutoModelForImageTextToText.from_pretrained(directory, dtype="float32").eval()
    chat, rows = Chat(processor, "reference"), []
    for question in asked(chat):
        text = chat.text(question.messages) + (BEGUN if question.spec.prefix_ids else "")
        images = [[image.pixels for image in images_of(question.messages)]]
        inputs = processor(text=[text], images=images, add_special_tokens=False, return_tensors="pt")
        rows.append(model(**inputs).logits[0, -1, list(chat.label_ids(SCORE_LABELS))].softmax(-1))
    return torch.stack(rows)


def probabilities(answers: Sequence[Answer]) -> torch.Tensor:
    return torch.tensor([answer.label_logprobs[0] for answer in answers]).softmax(-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_both_engines_read_what_plain_transformers_reads(tmp_path, family):
    directory = save_judge(family, tmp_path)
    expected = reference(directory)
    assert expected.std(0).max() > 100 * TOLERANCE  # check that the test can fail
    engines: tuple[EngineName, ...] = ("transformers", "vllm") if family == ON_VLLM else ("transformers",)
    for engine in engines:
        with forking():
            answers, written = asyncio.run(observe(engine, directory))
        assert probabilities(answers).sub(expected).abs().max() < TOLERANCE
        assert probabilities(written).sub(expected).abs().max() < TOLERANCE
        assert len({answer.token_ids for answer in written}) > 1


def test_vllm_on_a_cpu_rejects_a_family_that_it_would_misread(tmp_path):
    directory = save_judge("gemma3", tmp_path)
    with pytest.raises(UnsuitableModelError, match="attend to each other in both directions"):
        build_engine("vllm", EngineOptions(str(directory)))
