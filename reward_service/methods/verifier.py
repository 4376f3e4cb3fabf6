"""`verifier`: p(Yes) for every principle, aggregated into one reward (after arXiv:2604.27505, without training).

All principles of a candidate are asked at once, each in its own conversation that begins with the same images, so that
an engine with a prefix cache processes the images once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from edit_r1.reward_service.mathematics.aggregation import category_means, verifier_reward
from edit_r1.reward_service.methods.answers import read_expectation
from edit_r1.reward_service.methods.base import Method, Templates
from edit_r1.reward_service.methods.templates import before_and_after, conversation, fill_brief
from edit_r1.reward_service.methods.yes_no_logit import LABELS, SPEC, VALUES
from edit_r1.reward_service.types import Answer, Edit, Principle, Question, Score
from edit_r1.shared.schemas import Category

PARTS: tuple[Category, ...] = get_args(Category)


def checked(principles: Sequence[Principle], scores: Sequence[float]) -> Score:
    """The reward of checked principles, each with its score and verdict."""
    return Score(
        raw_score=verifier_reward(principles, scores),
        parts=category_means(principles, scores),
        details={
            "principles": [
                {
                    "question": principle.question,
                    "category": principle.category,
                    "weight": principle.weight,
                    "score": score,
                    "verdict": score > 0.5,
                }
                for principle, score in zip(principles, scores, strict=True)
            ]
        },
    )


def read(edit: Edit, answers: Sequence[Answer]) -> Score:
    """p(Yes) per principle, and the reward of them all."""
    found = [read_expectation(answer, 0, LABELS, VALUES) for answer in answers]
    score = checked(edit.principles, [one.raw_score for one in found])
    uncovered = [one.details["uncovered_mass"] for one in found if "uncovered_mass" in one.details]
    details = {**score.details, **({"uncovered_mass": max(uncovered)} if uncovered else {})}
    return replace(score, score_mass=min(one.score_mass or 0.0 for one in found), details=details)


def method(template: Templates) -> Method:
    """The method, with these base prompts."""
    text, answer_prefix = template("principle"), template.answer_prefix("principle")

    def ask(edit: Edit) -> tuple[Question, ...]:
        images = before_and_after(edit)
        texts = (fill_brief(text, edit.brief, question=principle.question) for principle in edit.principles)
        return tuple(Question(conversation(images, filled), SPEC, answer_prefix) for filled in texts)

    return Method(
        name="verifier",
        description="Probability of Yes for every principle of the edit; following gates preservation and quality.",
        ask=ask,
        read=read,
        raw_score_min=0.0,
        raw_score_max=1.0,
        parts=PARTS,
        at_first_token=True,
        answer_prefix=answer_prefix,
        labels=LABELS,
        needs_principles=True,
    )
