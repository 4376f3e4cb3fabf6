"""EditR1Scorer: a drop-in replacement for EditScore's scorer, backed by the reward service.

    scorer = EditR1Scorer("http://127.0.0.1:8000")
    scorer.evaluate([source, edited], "make the car red")["overall"]

Takes PIL images and an instruction and returns a dictionary of scores in 0..10. Synchronous and thread-safe.
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
    """The result EditScore's evaluation expects. The service returns one reasoning, which fills both fields."""

    prompt_following: float
    consistency: float
    perceptual_quality: float
    overall: float
    SC_reasoning: str
    PQ_reasoning: str


class EditR1Scorer:
    """Scores edits with a running reward service.

    Args:
        url: the service's root URL, or those of its replicas.
        method: one of GET /v1/methods. Aspects that the method does not rate separately (all of them, for
            `score_logit`) get its overall score.
        num_passes: number of answers averaged; above 1 only for sampling methods.
        seed: seed for sampling methods.
        task: task type; selects the task prompt.
        api_key: the service's API key.

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
        """Judge one edit, given its source image(s) followed by the edited image, and the instruction.

        Raises:
            DataError: fewer than two images.
            RewardServiceError: the service rejected the request, stayed unavailable, or has no score for this edit.

        """
        if len(image_prompts) < 2:
            raise DataError(f"image_prompts: {len(image_prompts)} images; need the source and the edited image")
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
