"""Trains the judge: teacher forcing of its answers, and dense supervision of the steps of the judgement.

From the score alone, a model of this size does not learn to compare images; with auxiliary heads that predict what
each visual token shows, what the instruction asks for, and which cells are right, it does so in minutes. The heads are
discarded afterwards. Legend: B batch, T tokens, H hidden size, N examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from edit_r1.reward_service.methods.base import SCORE_LABELS
from edit_r1.reward_service.methods.templates import TASKS_DIRECTORY, load_task_prompts
from edit_r1.worlds.shapes.training.judge_data import CELL_SIZES, RIGHT_SIZES, WISH_SIZES, Example, Labels, label
from edit_r1.worlds.shapes.training.judge_model import (
    END,
    HIDDEN,
    REQUIREMENTS,
    TOKENS_PER_IMAGE,
    Prompts,
    grid,
    pad_left,
    patches,
)
from edit_r1.worlds.shapes.training.judge_words import REASONING_START, SCORE_MARKER
from edit_r1.worlds.shapes.training.optimizing import descend, schedule
from edit_r1.worlds.shapes.world.oracle import SUCCESS_THRESHOLD
from edit_r1.worlds.shapes.world.scenes import render

_IGNORED = -100
_METHODS = ("score_logit", "yes_no_logit", "score_logit", "score_logit", "score_logit_cot", "score_logit")
"""Methods whose prompts the batches use, in turn. Sampling methods share these prompts."""


@dataclass(frozen=True)
class Pool:
    """Examples as tensors."""

    examples: tuple[Example, ...]
    reasoning: tuple[str, ...]
    labels: Labels
    patches: Tensor
    """[N, 2, patches, values] float16: original, edit."""
    oracle: Tensor
    """[N] float32."""


def make_pool(processor: Any, examples: Sequence[Example]) -> Pool:
    """Preprocess every example once with the judge's image processor."""
    labels, words = label(examples)
    sources = patches(processor, [render(example.task.source) for example in examples]).half()
    edits = patches(processor, [example.edited for example in examples]).half()
    oracle = torch.tensor([example.oracle for example in examples], dtype=torch.float32)
    return Pool(tuple(examples), tuple(words), labels, torch.stack([sources, edits], dim=1), oracle)


class Heads(nn.Module):
    """Linear heads on hidden states; only for training."""

    def __init__(self, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.visual = nn.Linear(hidden, sum(CELL_SIZES))
        """At each visual token from the vision encoder: its own cell."""
        self.original = nn.Linear(hidden, sum(CELL_SIZES))
        """At the edit's visual tokens, layer 2: the original's cell at the same position."""
        self.wish = nn.Linear(hidden, sum(WISH_SIZES))
        """At the end of the instruction, layer 2: what it asks for and where."""
        self.verdict = nn.Linear(hidden, sum(WISH_SIZES + CELL_SIZES + RIGHT_SIZES))
        """At the prompt's last token, second-to-last layer: all of the above, and which cells are right."""


def train_vision(model: Any, heads: Heads, pool: Pool, *, steps: int, rate: float, generator: torch.Generator) -> None:
    """First stage, takes seconds: only the vision encoder learns, to name what its tokens show."""
    tower = model.model.visual
    parameters = [*tower.parameters(), *heads.visual.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    for _ in schedule(optimizer, steps, rate, warmup=50, floor=0.1, name="vision tower"):
        rows = torch.randint(len(pool.oracle), (32,), generator=generator)
        features = _visual_tokens(tower, pool.patches[rows]).view(len(rows), 2 * TOKENS_PER_IMAGE, -1)
        descend(optimizer, _cross_entropy(heads.visual(features), CELL_SIZES, pool.labels.cells[rows]))


class JudgeTrainer:
    """Second stage: trains the whole judge on answers and auxiliary labels."""

    def __init__(self, model: Any, processor: Any, heads: Heads, *, batch: int, generator: torch.Generator) -> None:
        self.model, self.heads, self.batch, self.generator = model, heads, batch, generator
        self._prompts = Prompts(processor)
        tokenizer = processor.tokenizer
        self._image_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._requirements_id = tokenizer.convert_tokens_to_ids(REQUIREMENTS)
        self._pad_id, self._end_id = tokenizer.pad_token_id, tokenizer.convert_tokens_to_ids(END)
        self._digits = [tokenizer.convert_tokens_to_ids(digit) for digit in SCORE_LABELS]
        self._yes, self._no = (tokenizer.convert_tokens_to_ids(word) for word in ("Yes", "No"))
        self._task_prompts = load_task_prompts(TASKS_DIRECTORY)

    def train(self, pools: Sequence[tuple[Pool, float]], *, steps: int, rate: float, auxiliary: float) -> None:
        """Take `steps` optimizer steps; each batch takes its share of rows from each pool."""
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.model.train()
        for step in schedule(optimizer, steps, rate, warmup=100, floor=0.03, name="judge"):
            method = _METHODS[step % len(_METHODS)]
            weight = auxiliary * (1.0 if step < 0.7 * steps else 0.3)
            losses = []
            for pool, share in pools:
                rows = torch.randint(len(pool.oracle), (round(share * self.batch),), generator=self.generator)
                answer, steps_of_judgement = self._losses(pool, rows, method)
                losses.append(share * (answer + weight * steps_of_judgement))
            descend(optimizer, *losses)
        self.model.eval()

    def _losses(self, pool: Pool, rows: Tensor, method: str) -> tuple[Tensor, Tensor]:
        """Loss of the answer and of the auxiliary heads for some rows."""
        digits = self._draw_digits(pool.oracle[rows])
        prompts = [self._prompt(pool.examples[row], method) for row in rows.tolist()]
        answers = [self._answer(pool, row, digit, method) for row, digit in zip(rows.tolist(), digits, strict=True)]
        ids, mask = pad_left([p + a for p, a in zip(prompts, answers, strict=True)], self._pad_id)
        output = self.model.model(
            input_ids=ids,
            attention_mask=mask,
            pixel_values=pool.patches[rows].float().flatten(0, 2),
            image_grid_thw=grid(2 * len(rows)),
            mm_token_type_ids=(ids == self._image_id).int(),
            output_hidden_states=True,
        )
        lengths = torch.tensor([len(answer) for answer in answers])
        last = ids.shape[1] - lengths - 1
        log_probabilities = F.log_softmax(self.model.lm_head(output.last_hidden_state), dim=-1)
        answer_loss = self._answer_loss(log_probabilities, ids, lengths, pool.oracle[rows], method)
        return answer_loss, self._auxiliary_loss(output.hidden_states, ids, last, pool.labels, rows)

    def _answer_loss(
        self, log_probabilities: Tensor, ids: Tensor, lengths: Tensor, oracle: Tensor, method: str
    ) -> Tensor:
        """Mean negative log-likelihood of the answers; the digit's target is split between two neighbouring digits."""
        targets = ids[:, 1:].clone()
        position = torch.arange(targets.shape[1])
        targets[position[None] < (targets.shape[1] - lengths)[:, None]] = _IGNORED
        predicted = log_probabilities[:, :-1]
        rows, digit = torch.arange(len(ids)), targets.shape[1] - 2
        soft = torch.zeros(len(ids))
        if method != "yes_no_logit":
            lower, upper, share = _neighbours(oracle)
            at_digit, table = predicted[rows, digit], torch.tensor(self._digits)
            soft = -(1 - share) * at_digit[rows, table[lower]] - share * at_digit[rows, table[upper]]
            targets[:, digit] = _IGNORED
        rest = F.nll_loss(predicted.flatten(0, 1), targets.flatten(), ignore_index=_IGNORED, reduction="sum")
        return soft.mean() + rest / len(ids)

    def _auxiliary_loss(
        self, hidden: Sequence[Tensor], ids: Tensor, last: Tensor, labels: Labels, rows: Tensor
    ) -> Tensor:
        batch = torch.arange(len(ids))
        image = (ids == self._image_id).nonzero()[:, 1].view(len(ids), -1)
        edit = image[:, TOKENS_PER_IMAGE:]
        wished = (ids == self._requirements_id).nonzero()[:, 1]
        cells, wish = labels.cells[rows], labels.wish[rows]
        verdict = torch.cat([wish, labels.seen[rows], labels.right[rows]], dim=1)
        heads = self.heads
        return (
            _cross_entropy(heads.visual(hidden[0][batch[:, None], image]), CELL_SIZES, cells)
            + _cross_entropy(heads.original(hidden[2][batch[:, None], edit]), CELL_SIZES, cells[:, :TOKENS_PER_IMAGE])
            + _cross_entropy(heads.wish(hidden[2][batch, wished]), WISH_SIZES, wish)
            + _cross_entropy(heads.verdict(hidden[-2][batch, last]), WISH_SIZES + CELL_SIZES + RIGHT_SIZES, verdict)
        )

    def _prompt(self, example: Example, method: str) -> list[int]:
        task = example.task
        named = torch.rand((), generator=self.generator) < 0.5
        requirement = self._task_prompts[task.task if named else "default"]
        return self._prompts.token_ids(method, task.instruction, requirement)

    def _answer(self, pool: Pool, row: int, digit: int, method: str) -> list[int]:
        if method == "yes_no_logit":
            return [self._yes if pool.oracle[row] >= SUCCESS_THRESHOLD else self._no, self._end_id]
        start: list[int] = []
        if method == "score_logit_cot":
            start = self._prompts.encode(f'{REASONING_START}{pool.reasoning[row]}", {SCORE_MARKER}')
        return [*start, self._digits[digit], self._end_id]

    def _draw_digits(self, oracle: Tensor) -> list[int]:
        """A digit for each row's answer, sampled from its soft target."""
        lower, upper, share = _neighbours(oracle)
        up = torch.rand(len(oracle), generator=self.generator) < share
        drawn: list[int] = torch.where(up, upper, lower).tolist()
        return drawn


def _visual_tokens(tower: Any, values: Tensor) -> Tensor:
    """Run the vision encoder on [B, 2, patches, values]; returns [B * 8, H]."""
    output = tower(values.float().flatten(0, 2), grid_thw=grid(2 * len(values)))
    features = getattr(output, "pooler_output", output)
    return torch.cat(list(features)) if isinstance(features, (tuple, list)) else features


def _neighbours(oracle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The digits below and above 5 * oracle, and the weight of the upper one; each [B]."""
    scaled = 5 * oracle
    lower = scaled.floor().long().clamp(max=4)
    return lower, lower + 1, scaled - lower


def _cross_entropy(logits: Tensor, sizes: Sequence[int], classes: Tensor) -> Tensor:
    """Mean cross-entropy over the parts of a head; logits [..., sum(sizes)], classes [..., len(sizes)]."""
    parts = torch.split(logits, list(sizes), dim=-1)
    losses = [F.cross_entropy(part.flatten(0, -2), classes[..., i].flatten()) for i, part in enumerate(parts)]
    return torch.stack(losses).mean()


def pairwise_accuracy(scores: np.ndarray, oracle: np.ndarray, margin: float = 0.1) -> tuple[float, int]:
    """Share of within-group pairs ordered like the oracle orders them, and the number of pairs; inputs are [groups, K].

    Pairs whose oracle scores differ by at most `margin` do not count; a tie in the scores counts half.
    """
    first, second = np.triu_indices(oracle.shape[1], k=1)
    wanted = oracle[:, first] - oracle[:, second]
    given = scores[:, first] - scores[:, second]
    counted = (np.abs(wanted) > margin) & ~np.isnan(given)
    right = np.where(given == 0, 0.5, (given * wanted > 0).astype(float))
    return float(right[counted].mean()), int(counted.sum())
