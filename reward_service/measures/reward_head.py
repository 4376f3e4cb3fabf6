"""`reward_head`: a vision-language model whose last hidden state goes through a regression head, as in EditReward.

Each prompt about a candidate is one forward pass without generation. The hidden state at the head's token goes through
the head in float32; `head.json` says what its outputs mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from edit_r1.reward_service.measures.base import Measure
from edit_r1.reward_service.measures.head_file import read_head_file
from edit_r1.reward_service.types import Edit, Score
from edit_r1.shared.errors import MeasureError

if TYPE_CHECKING:
    from edit_r1.reward_service.measures.head_model import HeadModel


class RewardHead(Measure):
    """The score of a regression head.

    Args:
        model: directory with a checkpoint, its head and `head.json`.
        max_batch: maximum number of candidates per forward pass.
        device: torch's name of the device; `auto`: a GPU if there is one.
        dtype: data type of the model; `auto`: float32 on a CPU, else as in its config.json. The head is float32.

    """

    description = "The regression head of a reward model, e.g. EditReward, mapped to [0, 1] by its head.json."

    def __init__(
        self,
        model: str,
        max_batch: int = 8,
        device: str = "auto",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    ) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch: {max_batch}; expected at least 1")
        self._directory, self._max_batch = Path(model), max_batch
        self._device, self._dtype = device, dtype
        self._file, self._prompts = read_head_file(self._directory)
        self.parts = tuple(self._file.dimensions)
        self._model: HeadModel | None = None

    def load(self) -> None:
        """Load model and heads; checks the head's files before the model's weights."""
        from edit_r1.reward_service.measures.head_model import HeadModel  # noqa: PLC0415 - torch and transformers

        self._model = HeadModel(self._directory, self._file, self._device, self._dtype)

    def score(self, edits: Sequence[Edit]) -> Sequence[Score | MeasureError]:
        """Each edit's dimensions, combined and mapped."""
        found: list[Score | MeasureError] = []
        for start in range(0, len(edits), self._max_batch):
            found += self._batch(edits[start : start + self._max_batch])
        return found

    def _batch(self, edits: Sequence[Edit]) -> list[Score | MeasureError]:
        assert self._model is not None  # noqa: S101 - loaded before it is called
        outputs: dict[tuple[str, str], list[list[float]]] = {}
        for name, dimension in self._file.dimensions.items():
            asked = (self._prompts[name], dimension.head)
            if asked not in outputs:
                outputs[asked] = self._model.outputs(edits, *asked)
        rows = [
            {name: outputs[self._prompts[name], one.head][i] for name, one in self._file.dimensions.items()}
            for i in range(len(edits))
        ]
        return [self._read(row) for row in rows]

    def _read(self, outputs: dict[str, list[float]]) -> Score | MeasureError:
        """The score from each dimension's outputs."""
        values = {name: outputs[name][one.output] for name, one in self._file.dimensions.items()}
        if not all(map(math.isfinite, values.values())):
            return MeasureError(f"reward_head: its outputs are not finite: {values}")
        combined = min(values.values()) if self._file.combine == "min" else fmean(values.values())
        return Score(
            self._file.map(combined),
            parts={name: self._file.map(value) for name, value in values.items()},
            details={"values": values, **self._sigmas(outputs)},
        )

    def _sigmas(self, outputs: dict[str, list[float]]) -> dict[str, Any]:
        """Standard deviations, of the dimensions that have one."""
        found = {
            name: math.exp(outputs[name][one.log_sigma])
            for name, one in self._file.dimensions.items()
            if one.log_sigma is not None
        }
        return {"sigmas": found} if found else {}
