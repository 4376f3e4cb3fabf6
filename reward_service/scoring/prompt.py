"""The answer to POST /v1/prompt: the questions about an edit, as the judge reads them."""

from __future__ import annotations

from collections.abc import Sequence

from edit_r1.reward_service.engines.base import ChatText
from edit_r1.reward_service.types import Edit, JudgeImage, Messages, Question
from edit_r1.shared.schemas import PromptMessage, PromptPart, PromptQuestion, PromptResponse


def prompt_response(
    chat: ChatText, model: str, method: str, asked: Sequence[Question], edits: Sequence[Edit]
) -> PromptResponse:
    """The response with these questions; `edits` are those that they show, all of one brief."""
    names = {id(image): f"source {i}" for i, image in enumerate(edits[0].brief.sources)}
    names |= {id(edit.candidate): f"candidate {i}" for i, edit in enumerate(edits)}
    questions = tuple(
        PromptQuestion(messages=_wire(one.messages, names), text=chat.text(one.messages) + one.answer_prefix)
        for one in asked
    )
    return PromptResponse(
        model=model, method=method, messages=questions[0].messages, text=questions[0].text, questions=questions
    )


def _wire(messages: Messages, names: dict[int, str]) -> tuple[PromptMessage, ...]:
    def part(one: str | JudgeImage) -> PromptPart:
        if isinstance(one, str):
            return PromptPart(type="text", text=one)
        return PromptPart(type="image", image=names[id(one)])

    return tuple(PromptMessage(role=one.role, content=tuple(map(part, one.content))) for one in messages)
