"""EditR1Scorer: the reward service in the place of EditScore's own scorer, for evaluation code written for that.

    scorer = EditR1Scorer("http://127.0.0.1:8000")
    scorer.evaluate([source, edited], "make the car red")["overall"]

PIL images and an instruction enter; a dictionary of scores in 0..10 leaves. Synchronous, and safe to call from threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypedDict

from PIL import Image

from edit_r1.shared.client import RewardClient
from edit_r1.shared.errors import DataError, RewardServiceError
from edit_r1.shared.images import encode
from edit_r1.shared.schemas import CandidateError, EditGroup, ScoreResponse

_TOP = 10.0


class Evaluation(TypedDict):
    """What EditScore's evaluation reads. The service answers one reasoning, which stands in both places."""

    prompt_following: float
    consistency: float
    perceptual_quality: float
    overall: float
    SC_reasoning: str
    PQ_reasoning: str


class EditR1Scorer:
    """Scores edits by a running reward service.

    Args:
        url: the service's root, or those of its replicas.
        method: one of GET /v1/methods. What a method does not rate apart (all of it, for `score_logit`) has its
            overall score.
        num_passes: answers averaged; above 1 only for sampling methods.
        seed: of sampling methods.
        task: task type; picks the task prompt.
        api_key: the service's key.

    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        method: str = "editscore",
        num_passes: int = 1,
        seed: int = 0,
        task: str | None = None,
        api_key: str | None = None,
    ) -> None:
        self._url, self._api_key = url, api_key
        self._options = {"method": method, "num_passes": num_passes, "seed": seed, "task": task, "reasoning": True}

    def evaluate(self, image_prompts: Sequence[Image.Image], text_prompt: str) -> Evaluation:
        """Judge one edit: its source image(s) and last the edited one, and the instruction.

        Raises:
            DataError: not at least two images.
            RewardServiceError: the service refused, stayed away, or has no score for this edit.

        """
        if len(image_prompts) < 2:
            raise DataError(f"image_prompts: {len(image_prompts)} images; the source and the edited one are needed")
        *sources, edited = map(encode, image_prompts)
        group = EditGroup.model_validate(
            {"instruction": text_prompt, "sources": sources, "candidates": [edited], **self._options}
        )
        (result,) = asyncio.run(self._score(group)).results
        if isinstance(result, CandidateError):
            raise RewardServiceError(f"no score: {result.error.code}: {result.error.message}")
        overall = _TOP * result.score
        parts = {name: _TOP * value for name, value in result.details.get("parts", {}).items()}

        def rated(*names: str) -> float:
            return next((parts[name] for name in names if name in parts), overall)

        reasoning = result.reasoning or ""
        return Evaluation(
            prompt_following=rated("instruction_following", "follow"),
            consistency=rated("preservation", "keep"),
            perceptual_quality=rated("perceptual_quality", "quality"),
            overall=overall,
            SC_reasoning=reasoning,
            PQ_reasoning=reasoning,
        )

    async def _score(self, group: EditGroup) -> ScoreResponse:
        async with RewardClient(self._url, api_key=self._api_key) as client:
            return await client.score(group)
