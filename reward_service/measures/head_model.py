"""The model behind `reward_head`: edits and a prompt -> the outputs of a head.

Legend: B edits, S tokens, H the model's width, N outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.utils.logging import disable_progress_bar

from edit_r1.reward_service.measures.head_file import HeadFile
from edit_r1.reward_service.measures.head_weights import Weights
from edit_r1.reward_service.types import Edit, JudgeImage
from edit_r1.shared.errors import ConfigError, MeasureError


class HeadModel:
    """A loaded Qwen2-VL or Qwen2.5-VL with its heads. Raises ConfigError if a file does not fit the others."""

    def __init__(self, directory: Path, file: HeadFile, device: str, dtype: str) -> None:
        self._file = file
        weights = Weights(directory)
        self._heads = {one.head: weights.head(one.head) for one in file.dimensions.values()}
        for name, one in file.dimensions.items():
            _check_outputs(name, self._heads[one.head], {one.output, one.log_sigma})
        config = AutoConfig.from_pretrained(directory)
        text = config.get_text_config()
        text.vocab_size = weights.vocabulary_size()
        self._check_width(text.hidden_size)
        self._processor = AutoProcessor.from_pretrained(directory)
        self._token_id = self._add_token(text.vocab_size)
        self._control = frozenset(self._processor.tokenizer.get_added_vocab())
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        model = _load(directory, config, "float32" if dtype == "auto" and chosen == "cpu" else dtype)
        self._model = model.to(chosen).eval().requires_grad_(False)
        for head in self._heads.values():
            head.to(chosen)

    @torch.inference_mode()
    def outputs(self, edits: Sequence[Edit], prompt: str, head: str) -> list[list[float]]:
        """[B, N], the head's outputs about each edit. Raises MeasureError for a control token in the instruction."""
        inputs = self._inputs(edits, prompt)
        hidden: Tensor = self._model(**inputs, use_cache=False).last_hidden_state
        rows = torch.arange(len(edits), device=hidden.device)
        read = hidden[rows, self._positions_read(inputs)]
        found: list[list[float]] = self._heads[head](read.float()).cpu().tolist()
        return found

    def _inputs(self, edits: Sequence[Edit], prompt: str) -> dict[str, Tensor]:
        instruction = edits[0].brief.instruction
        control = [token for token in self._control if token in instruction]
        if control:
            raise MeasureError(f"reward_head: the instruction contains the control token {control[0]}")
        images = [self._images(edit) for edit in edits]
        content = [{"type": "image"} for _ in images[0]]
        content.append({"type": "text", "text": prompt.replace("{instruction}", instruction)})
        text = self._processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        processed = self._processor(
            text=[text] * len(edits),
            images=[[image.pixels for image in row] for row in images],
            padding=True,
            padding_side="right",
            return_tensors="pt",
            **self._size(),
        )
        inputs = {name: value.to(self._model.device) for name, value in processed.items()}
        return inputs | ({"position_ids": _sequential(inputs)} if self._file.positions == "sequential" else {})

    def _images(self, edit: Edit) -> tuple[JudgeImage, ...]:
        return (*edit.brief.sources, edit.candidate) if self._file.with_source else (edit.candidate,)

    def _size(self) -> dict[str, Any]:
        """The processor's option for the number of pixels, as far as head.json sets it."""
        own = self._processor.image_processor.size
        smallest = self._file.min_pixels or own["shortest_edge"]
        largest = self._file.max_pixels or own["longest_edge"]
        return {"size": {"shortest_edge": smallest, "longest_edge": largest}}

    def _positions_read(self, inputs: dict[str, Tensor]) -> Tensor:
        """[B], the position of the token that is read."""
        if self._token_id is None:
            last: Tensor = inputs["attention_mask"].sum(1) - 1
            return last
        return (inputs["input_ids"] == self._token_id).int().argmax(1)

    def _add_token(self, vocabulary_size: int) -> int | None:
        """Id of the token that is read; added to a tokenizer without it, as the published training code does."""
        token, tokenizer = self._file.token, self._processor.tokenizer
        if token is None:
            return None
        if token not in tokenizer.get_vocab():
            tokenizer.add_special_tokens({"additional_special_tokens": [token]}, replace_extra_special_tokens=False)
        found = int(tokenizer.convert_tokens_to_ids(token))
        if found >= vocabulary_size:
            raise ConfigError(f"head.json: token {token} has id {found}; the model knows {vocabulary_size} tokens")
        return found

    def _check_width(self, width: int) -> None:
        for name, head in self._heads.items():
            if (found := cast("nn.Linear", head[0]).in_features) != width:
                raise ConfigError(f"reward_head: {name} reads {found} numbers; the model's hidden states have {width}")


def _load(directory: Path, config: Any, dtype: str) -> Any:
    """The model without its output layer. Raises ConfigError if weights are missing; transformers would invent them."""
    disable_progress_bar()
    reports = logging.getLogger("transformers.modeling_utils")
    before = reports.level
    reports.setLevel(logging.ERROR)  # the head's weights are unexpected there, and missing ones are checked here
    try:
        model, report = AutoModelForImageTextToText.from_pretrained(
            directory, config=config, dtype=dtype, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"reward_head: {directory} cannot be loaded: {error}") from error
    finally:
        reports.setLevel(before)
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("lm_head"))
    if missing:
        raise ConfigError(f"reward_head: the checkpoint in {directory} lacks {missing[0]} (of {len(missing)} weights)")
    return model.model


def _check_outputs(name: str, head: nn.Sequential, wanted: set[int | None]) -> None:
    num_outputs = cast("nn.Linear", head[-1]).out_features
    missing = [one for one in wanted if one is not None and one >= num_outputs]
    if missing:
        raise ConfigError(f"head.json: dimensions.{name} reads output {missing[0]}; its head has {num_outputs}")


def _sequential(inputs: dict[str, Tensor]) -> Tensor:
    """[3, B, S], every token's place in its row, for images as for text."""
    mask = inputs["attention_mask"]
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return positions[None].expand(3, -1, -1)
