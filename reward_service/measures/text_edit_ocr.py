"""`text_edit_ocr`: whether the picture shows the text that was asked for, read by RapidOCR on the CPU.

The text is the request's `expected_text`, or the one in quotation marks in its instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edit_r1.reward_service.measures.base import Measure
from edit_r1.reward_service.measures.packages import need
from edit_r1.reward_service.measures.quoted_text import UnclearTextError, similarity, wanted_text
from edit_r1.reward_service.types import Edit, Score
from edit_r1.shared.errors import MeasureError


class TextEditOcr(Measure):
    """1 - normalised edit distance between the text that was asked for and the closest one in the picture.

    Args:
        threads: number of CPU threads.

    """

    description = "How close the text in the picture is to the one asked for, in quotation marks or `expected_text`."

    def __init__(self, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"threads: {threads}; expected at least 1")
        self._threads = threads
        self._ocr: Any = None
        self._graphemes: Any = None
        self._close: Any = None

    def load(self) -> None:
        """Load the OCR models, which are part of the package `rapidocr`."""
        need("onnxruntime", "text_edit_ocr")
        self._close = need("rapidfuzz.distance", "text_edit_ocr").Levenshtein.normalized_similarity
        pattern = need("regex", "text_edit_ocr").compile(r"\X")
        self._graphemes = pattern.findall
        threads = "EngineConfig.onnxruntime.intra_op_num_threads"
        options = {"Global.log_level": "error", threads: self._threads}
        self._ocr = need("rapidocr", "text_edit_ocr").RapidOCR(params=options)
        self._read(np.full((32, 32, 3), 255, np.uint8))  # the models are loaded on first use

    def score(self, edits: Sequence[Edit]) -> Sequence[Score | MeasureError]:
        """Each edit's similarity; a picture without text has 0."""
        brief = edits[0].brief
        try:
            wanted = brief.expected_text or wanted_text(brief.instruction)
        except UnclearTextError as error:
            raise MeasureError(f"text_edit_ocr: {error}; send expected_text") from error
        return [self._one(edit, wanted) for edit in edits]

    def _one(self, edit: Edit, wanted: str) -> Score:
        lines = self._read(np.asarray(edit.candidate.pixels))
        value, text = similarity(lines, wanted, self._graphemes, self._close)
        return Score(value, details={"expected_text": wanted, "read_text": text})

    def _read(self, pixels: np.ndarray[Any, Any]) -> Sequence[str]:
        """The lines of text in a picture [H, W, 3], RGB, in reading order."""
        return self._ocr(np.ascontiguousarray(pixels[..., ::-1])).txts or ()
