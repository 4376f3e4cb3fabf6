"""EditR1Scorer: the reward service in the place of EditScore's own scorer, for evaluation code that is written for that.

    scorer = EditR1Scorer("http://127.0.0.1:8000")
    scorer.evaluate([source, edited], "make the car red")["overall"]

PIL images and an instruction enter; a dictionary of scores in 0..10 leaves. Synchronous, and safe to call from threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypedDict

from PIL import Image

from shared.client import RewardClient
from shared.errors import DataError, UnparsableAnswerError
from shared.images import encode
from shared.schemas import CandidateError, EditGroup

_TOP = 10.0
_PARTS = {
    "prompt_following": ("instruction_following", "follow"),
    "consistency": ("preservation", "keep"),
    "perceptual_quality": ("perceptual_quality", "quality"),
}
"""Name there -> names of our methods' parts."""


class Evaluation(TypedDict):
    """What EditScore's evaluation reads."""

    prompt_following: float
    consistency: float
    perceptual_quality: float
    overall: float
    SC_reasoning: str
    PQ_reasoning: str
