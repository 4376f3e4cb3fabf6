"""The two stages of verifier training, in order: supervised on traces, then on preference pairs.

Each stage updates the judge's adapter and reports the metrics of every step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edit_r1.reward_service.judge_training.data import PreferredPair, SeenEdit, Trace
from edit_r1.reward_service.judge_training.gcpo import UNREADABLE, clipped_surrogate, contrastive_advantages
from edit_r1.reward_service.judge_training.judge import Asked, LearningJudge, Tokens
from edit_r1.reward_service.methods.base import Method
from edit_r1.reward_service.scoring.principles import Principles
from edit_r1.reward_service.types import Answer, Brief, Edit, Question
from edit_r1.shared.errors import DataError, UnparsableAnswerError
from edit_r1.shared.schemas import DEFAULT_TASK, task_key

_WARMUP = 20


@dataclass(frozen=True)
class StageOptions:
    """Options of a training stage."""

    steps: int
    batch: int
    """Traces or pairs per step."""
    learning_rate: float


@dataclass(frozen=True)
class PreferenceOptions(StageOptions):
    """Options of the second stage."""

    chains: int
    """Chains sampled per edit, N in the equations."""
    updates: int = 2
    """Optimizer steps per set of sampled chains."""
    clip: float = 0.2
    max_tokens: int = 256
    """Maximum number of tokens of a written chain."""


Tell = Callable[[int, dict[str, float]], None]
"""Called with (step, metrics)."""


class Questions:
    """A method's questions about an edit, exactly as the service asks them."""

    def __init__(self, method: Method, principles: Principles, requirements: dict[str, str]) -> None:
        self.method = method
        self._principles, self._requirements = principles, requirements

    def edit(self, seen: SeenEdit) -> Edit:
        """The edit with its requirement and principles. Raises DataError for a task the service would reject."""
        task = task_key(seen.task or DEFAULT_TASK)
        if seen.requirement is None and task not in self._requirements:
            known = ", ".join(sorted(self._requirements))
            raise DataError(f"task {seen.task!r}; known: {known} (or give a requirement)")
        requirement = self._requirements[task] if seen.requirement is None else seen.requirement
        brief = Brief(seen.instruction, requirement, task, seen.sources)
        return Edit(brief, seen.edited, asyncio.run(self._principles.of(brief)))

    def about(self, seen: SeenEdit) -> tuple[Question, ...]:
        """The questions about an edit."""
        return self.method.ask(self.edit(seen))


def supervised(
    judge: LearningJudge, questions: Questions, traces: Sequence[Trace], options: StageOptions, *, seed: int, tell: Tell
) -> None:
    """Train on the traces' answers: mean negative log-likelihood of their tokens.

    Raises DataError before the first step if a trace's number of answers differs from the method's number of questions.
    """
    examples = [_asked(judge, questions, number, trace) for number, trace in enumerate(traces, start=1)]
    for step, rows, optimizer in _steps(judge, len(examples), options, seed):
        logprobs, mask = judge.logprobs([one for row in rows for one in examples[row]])
        loss = -(logprobs * mask).sum() / mask.sum()
        _descend(optimizer, judge, loss)
        tell(step, {"loss": loss.item()})


def preferences(
    judge: LearningJudge,
    questions: Questions,
    pairs: Sequence[PreferredPair],
    options: PreferenceOptions,
    *,
    seed: int,
    tell: Tell,
) -> None:
    """Train chains about the preferred edit to be more favourable than those about the rejected one (GCPO)."""
    for step, rows, optimizer in _steps(judge, len(pairs), options, seed):
        torch.manual_seed(seed * 1_000_003 + step)
        edits = [edit for row in rows for edit in pairs[row].edits]
        chains = _draw(judge, questions, edits, options)
        sums = torch.tensor([[_verdict_sum(judge, questions, one) for one in drawn] for drawn in chains])
        advantages = torch.cat(
            [part for i in range(0, len(edits), 2) for part in contrastive_advantages(sums[i], sums[i + 1])]
        )
        _update(judge, [chain for drawn in chains for chain in drawn], advantages, optimizer, options)
        readable = sums > UNREADABLE
        tell(
            step,
            {
                "ordered": float((sums[0::2, :, None] > sums[1::2, None, :]).float().mean()),
                "equal": float((sums[0::2, :, None] == sums[1::2, None, :]).float().mean()),
                "unreadable": 1.0 - float(readable.float().mean()),
            },
        )


@dataclass(frozen=True)
class _Chain:
    """One sampled answer to every question about one edit."""

    edit: Edit
    asked: tuple[Asked, ...]


def _draw(
    judge: LearningJudge, questions: Questions, edits: Sequence[SeenEdit], options: PreferenceOptions
) -> list[list[_Chain]]:
    """Sampled chains, indexed [edit][chain]."""
    seen = [questions.edit(edit) for edit in edits]
    asked = [questions.method.ask(edit) for edit in seen]
    judge.model.eval()
    answers = iter(judge.sample([one for row in asked for one in row], options.chains, max_tokens=options.max_tokens))
    drawn = []
    for edit, row in zip(seen, asked, strict=True):
        by_question = [next(answers) for _ in row]
        drawn.append([_Chain(edit, tuple(map(Asked, row, said))) for said in zip(*by_question, strict=True)])
    return drawn


def _update(
    judge: LearningJudge,
    chains: Sequence[_Chain],
    advantages: Tensor,
    optimizer: torch.optim.Optimizer,
    options: PreferenceOptions,
) -> None:
    # If answers are labels, chains about one edit share most of them: compute each distinct answer once.
    different: dict[tuple[int, Tokens], int] = {}
    asked: list[Asked] = []
    places: list[list[int]] = []
    for chain in chains:
        places.append([])
        for one in chain.asked:
            key = (id(one.question), one.answer)
            if key not in different:
                different[key] = len(asked)
                asked.append(one)
            places[-1].append(different[key])
    index = torch.tensor(places)
    old: Tensor | None = None
    for _ in range(options.updates):
        logprobs, mask = judge.logprobs(asked)
        tokens, there = logprobs[index].flatten(1), mask[index].flatten(1)
        old = tokens.detach() if old is None else old
        _descend(optimizer, judge, clipped_surrogate(tokens, old, there, advantages.to(tokens), options.clip))


def _verdict_sum(judge: LearningJudge, questions: Questions, chain: _Chain) -> float:
    """Number of principles a chain considers fulfilled; UNREADABLE if it cannot be parsed."""
    if questions.method.labels:
        good = judge.chat.label_ids(questions.method.labels)[0]
        return float(sum(one.answer == (good,) for one in chain.asked))
    answers = [Answer(judge.chat.decode(one.answer), one.answer, judge.chat.pieces(one.answer)) for one in chain.asked]
    try:
        score = questions.method.read(chain.edit, answers)
    except UnparsableAnswerError:
        return UNREADABLE
    return float(sum(point["verdict"] for point in score.details["principles"]))


def _asked(judge: LearningJudge, questions: Questions, number: int, trace: Trace) -> list[Asked]:
    asked = questions.about(trace.edit)
    if len(trace.answers) != len(asked):
        raise DataError(
            f"trace {number} has {len(trace.answers)} answers; {questions.method.name} asks {len(asked)} questions"
        )
    found = [Asked(question, judge.encode(question, text)) for question, text in zip(asked, trace.answers, strict=True)]
    for one, text in zip(found, trace.answers, strict=True):
        if one.question.spec.max_tokens == 1 and text not in one.question.spec.labels:
            raise DataError(f"trace {number}: answer {text!r} is not one of {', '.join(one.question.spec.labels)}")
    return found


def _steps(
    judge: LearningJudge, num_examples: int, options: StageOptions, seed: int
) -> Iterator[tuple[int, list[int], torch.optim.Optimizer]]:
    """Yields (step, sampled rows, optimizer); the learning rate warms up, then decays to a tenth."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(judge.parameters, lr=options.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(options.steps):
        share = min(1.0, (step + 1) / _WARMUP) * (1 - 0.9 * step / options.steps)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * share
        judge.model.train()
        yield step, torch.randint(num_examples, (options.batch,), generator=generator).tolist(), optimizer


def _descend(optimizer: torch.optim.Optimizer, judge: LearningJudge, loss: Tensor) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(judge.parameters, 1.0)
    optimizer.step()
