"""`verifier_cot`: the judge goes through all principles in one answer and decides each (0 or 1), with its reasoning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edit_r1.reward_service.methods.answers import parse_entries
from edit_r1.reward_service.methods.base import Method, Templates
from edit_r1.reward_service.methods.templates import before_and_after, conversation, fill_brief
from edit_r1.reward_service.methods.verifier import PARTS, checked
from edit_r1.reward_service.types import Answer, Edit, Question, SamplingSpec, Score
from edit_r1.shared.errors import UnparsableAnswerError

SPEC = SamplingSpec(max_tokens=1024)
_MAX_TRIES = 3


def read(edit: Edit, answers: Sequence[Answer]) -> Score:
    """The verdict on every principle; an answer that leaves one out has no score."""
    entries = parse_entries(answers[0].text)
    verdicts = {entry["point"]: float(entry["holds"]) for entry in entries if _is_verdict(entry)}
    wanted = range(1, len(edit.principles) + 1)
    missing = [point for point in wanted if point not in verdicts]
    if missing:
        raise UnparsableAnswerError(
            f"the judge decided {len(edit.principles) - len(missing)} of {len(edit.principles)} principles; "
            f"no 0 or 1 for point {missing[0]}"
        )
    score = checked(edit.principles, [verdicts[point] for point in wanted])
    reasoning = "\n".join(f"{entry.get('point')}. {entry.get('seen', '')}" for entry in entries)
    return replace(score, reasoning=reasoning)


def _is_verdict(entry: Mapping[str, object]) -> bool:
    return isinstance(entry.get("point"), int) and entry.get("holds") in (0, 1)


def method(template: Templates) -> Method:
    """The method, with these base prompts."""
    text = template("verifier_cot")

    def ask(edit: Edit) -> tuple[Question, ...]:
        checklist = "\n".join(f"{i}. {principle.question}" for i, principle in enumerate(edit.principles, 1))
        filled = fill_brief(text, edit.brief, checklist=checklist)
        return (Question(conversation(before_and_after(edit), filled), SPEC),)

    return Method(
        name="verifier_cot",
        description="The judge reasons about and decides every principle in one answer; aggregated like `verifier`.",
        ask=ask,
        read=read,
        raw_score_min=0.0,
        raw_score_max=1.0,
        parts=PARTS,
        sampled=True,
        temperature=SPEC.temperature,
        reasoning=True,
        needs_principles=True,
        max_tries=_MAX_TRIES,
    )
