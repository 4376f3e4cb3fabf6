"""A trainable judge: the engine's own inputs, with gradients in a LoRA adapter of its language model.

Takes conversations and returns log-probabilities of given answers, or sampled answers. The vision encoder is frozen,
so each image goes through it once. Legend: B conversations, T tokens of an answer (padded on the right).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import GenerationConfig

from edit_r1.reward_service.engines.batches import BatchBuilder
from edit_r1.reward_service.engines.checkpoint import QWEN_VL, load_checkpoint, read_config
from edit_r1.reward_service.engines.resolution import choose_resolution
from edit_r1.reward_service.engines.vision import SeenPictures
from edit_r1.reward_service.types import Messages, Question
from edit_r1.shared.errors import UnsuitableModelError

TARGETS = r".*language_model.*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
_ROWS_AT_ONCE = 64
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Asked:
    """One question with one answer."""

    question: Question
    answer: Tokens


class LearningJudge:
    """A checkpoint with a trainable adapter.

    Args:
        directory: the judge's checkpoint, or its name on the Hugging Face Hub.
        rank: rank of a new adapter.
        start: adapter to continue from, instead of a new one.

    """

    def __init__(self, directory: str, *, rank: int, start: Path | None = None) -> None:
        family = read_config(directory).model_type
        if family not in QWEN_VL:
            raise UnsuitableModelError(f"model {directory}: train-judge trains Qwen-VL judges, not {family}")
        checkpoint = load_checkpoint(directory, "bfloat16" if torch.cuda.is_available() else "float32")
        model = checkpoint.model
        self.chat = checkpoint.chat
        self._checkpoint = checkpoint
        self._device: torch.device = model.device
        self._pictures = SeenPictures(model)
        resolution = choose_resolution(self.chat.processor.image_processor, None, None)
        self._builder = BatchBuilder(self.chat, self._device, checkpoint.max_tokens, resolution)
        self.model: Any = (
            PeftModel.from_pretrained(model, str(start), is_trainable=True)
            if start is not None
            else get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS))
        )

    @property
    def parameters(self) -> list[Tensor]:
        """The trainable parameters."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def encode(self, question: Question, text: str) -> Tokens:
        """The tokens of an answer: with an end token for written answers, without one for labels."""
        ids = self.chat.encode(text)
        return ids if question.spec.max_tokens == 1 else (*ids, self._checkpoint.end_ids[0])

    def logprobs(self, asked: Sequence[Asked]) -> tuple[Tensor, Tensor]:
        """([B, T] log-probabilities of the answers' tokens, [B, T] mask), with gradients.

        For questions answered with a label, probabilities are normalised over the question's labels only.
        """
        parts = [self._logprobs(asked[i : i + _ROWS_AT_ONCE]) for i in range(0, len(asked), _ROWS_AT_ONCE)]
        longest = max(part.shape[1] for part in parts)
        padded = [torch.nn.functional.pad(part, (0, longest - part.shape[1])) for part in parts]
        lengths = torch.tensor([len(one.answer) for one in asked], device=self._device)
        mask = (torch.arange(longest, device=self._device)[None] < lengths[:, None]).float()
        return torch.cat(padded), mask

    @torch.no_grad()
    def sample(self, questions: Sequence[Question], num_samples: int, *, max_tokens: int) -> list[list[Tokens]]:
        """`num_samples` answers to each question at temperature 1, using torch's global generator."""
        return [
            answers
            for i in range(0, len(questions), _ROWS_AT_ONCE)
            for answers in self._sample(questions[i : i + _ROWS_AT_ONCE], num_samples, max_tokens)
        ]

    def save(self, directory: Path) -> None:
        """Write the adapter."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Could not find a config file")
            self.model.save_pretrained(str(directory))
        (directory / "README.md").unlink(missing_ok=True)

    def _logprobs(self, asked: Sequence[Asked]) -> Tensor:
        logits = self._logits([one.question.messages for one in asked], [one.answer[:-1] for one in asked])
        lengths = [len(one.answer) for one in asked]
        longest = max(lengths)
        rows = []
        for one, row, length in zip(asked, logits, lengths, strict=True):
            drawn = torch.tensor(one.answer, device=self._device)
            wanted = row[row.shape[0] - length :].float()
            labels = self._label_ids(one.question)
            if labels is None:
                found = wanted.log_softmax(-1).gather(1, drawn[:, None])[:, 0]
            else:
                found = wanted[:, labels].log_softmax(-1)[:, (labels == drawn).nonzero()[0, 0]]
            rows.append(torch.nn.functional.pad(found, (0, longest - length)))
        return torch.stack(rows)

    def _sample(self, questions: Sequence[Question], num_samples: int, max_tokens: int) -> list[list[Tokens]]:
        labels = self._label_ids(questions[0])
        if labels is not None:
            logits = self._logits([question.messages for question in questions], [()] * len(questions))[:, -1, labels]
            drawn = torch.multinomial(logits.float().softmax(-1), num_samples, replacement=True)
            return [[(int(labels[i]),) for i in row] for row in drawn]
        rows = self._builder.rows([question.messages for question in questions], [()] * len(questions))
        inputs = self._builder.inputs([row for row in rows for _ in range(num_samples)])
        end_ids = self._checkpoint.end_ids
        config = GenerationConfig(
            max_new_tokens=max_tokens,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            eos_token_id=list(end_ids),
            pad_token_id=end_ids[0],
        )
        with self._pictures.shown(inputs.shown):
            output = self.model.generate(**inputs.arguments, generation_config=config)
        new = output[:, inputs.arguments["input_ids"].shape[1] :].tolist()
        written = [tuple(self._checkpoint.until_end(row)[0]) for row in new]
        return [written[i : i + num_samples] for i in range(0, len(written), num_samples)]

    def _label_ids(self, question: Question) -> Tensor | None:
        """Label ids of a question with a one-token answer; None for written answers."""
        if question.spec.max_tokens > 1:
            return None
        return torch.tensor(self.chat.label_ids(question.spec.labels), device=self._device)

    def _logits(self, conversations: Sequence[Messages], prefixes: Sequence[Tokens]) -> Tensor:
        """[B, K, V] logits at the last K positions, K being the length of the longest answer."""
        inputs = self._builder.inputs(self._builder.rows(conversations, prefixes))
        keep = max(map(len, prefixes)) + 1
        with self._pictures.shown(inputs.shown):
            logits: Tensor = self.model(**inputs.arguments, logits_to_keep=keep, use_cache=False).logits
        return logits
