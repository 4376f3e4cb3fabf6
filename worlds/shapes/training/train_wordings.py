"""Teach the tiny judge the words of prompts that it has not seen: answer prefixes, and the wording of our own.

    python -m edit_r1.worlds.shapes.training.train_wordings --judge worlds/shapes/judge

The judge was trained to answer the paper's questions with a label at once. Here it learns to give the same answers
after an answer prefix. Only the embeddings of the prefix's new tokens are trained (prompt tuning, arXiv:2104.08691),
with the judge's own answers as targets, so its weights and its adapters stay as they are; and these tokens are kept out
of what the judge writes. The sentences of our own wording become tokens, too; adapters learn to answer them
(`train_reviews`). Legend: B batch, N examples, V vocabulary, S positions of written answers, D width.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from edit_r1.reward_service.methods import load_methods
from edit_r1.reward_service.methods.templates import TASKS_DIRECTORY, base_prompts, load_task_prompts
from edit_r1.shared.files import write_json
from edit_r1.shared.schemas import DEFAULT_TASK
from edit_r1.worlds.shapes.training.judge_data import SEEN, Example, draw
from edit_r1.worlds.shapes.training.judge_model import Prompts, grid, pad_left, patches, save, sentences_of
from edit_r1.worlds.shapes.training.judge_words import REASONING_START, SCORE_MARKER
from edit_r1.worlds.shapes.training.optimizing import descend, schedule
from edit_r1.worlds.shapes.training.review_data import Facts, answers, facts
from edit_r1.worlds.shapes.training.train_reviews import written_principles
from edit_r1.worlds.shapes.world.scenes import render


@dataclass(frozen=True)
class Recipe:
    """Sizes and steps."""

    num_examples: int = 6000
    steps: int = 2000
    learning_rate: float = 5e-3
    batch: int = 48
    margin: float = 10.0
    """How far the new tokens' logits must stay below the log-sum of all others where the judge writes."""


PREFIXED = {"score_logit": "score", "yes_no_logit": "yes_no"}
"""Methods that learn to answer after a prefix, and their base prompts."""
OWN_WORDINGS = {"score_direct": "score", "yes_no_direct": "yes_no"}
"""Base prompts in our own words, each with the one whose sentences its own begin as."""
WRITING = ("editscore", "unified_reward", "verifier_cot")
"""Methods whose adapters write."""
_NUM_WRITTEN = 200
"""Examples whose written answers the new tokens are kept out of."""
_NO_REQUIREMENT = "None"
_ANSWER_STARTS = "assistant\n"
"""The token at which the judge answers; the tokens of prefixes begin as its copies."""


@dataclass(frozen=True)
class Lesson:
    """What one method is to learn."""

    asked: list[list[int]]
    """N conversations, each with the prefix."""
    wanted: Tensor
    """[N, V] log-probabilities of the answer without a prefix."""


def learn_wordings(judge: Path, recipe: Recipe, seed: int) -> dict[str, object]:
    """Add the new tokens and train those of prefixes, in place; returns the entry of `recipe.json`."""
    torch.manual_seed(seed)
    started = time.monotonic()
    processor = Qwen2_5_VLProcessor.from_pretrained(judge)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(judge, dtype=torch.float32).eval()
    rng = np.random.default_rng([seed, 6])
    examples = [draw(rng, "train", SEEN) for _ in range(recipe.num_examples)]
    # Asked before the new tokens exist, as the judge was trained.
    asked = {method: conversations(Prompts(processor), method, examples) for method in PREFIXED}
    learner = Learner(model, processor, _pictures(processor, examples), torch.Generator().manual_seed(seed))
    wanted = {method: learner.answers(asked[method]) for method in PREFIXED}
    new = add_sentences(model, processor)
    prompts, prefixes = Prompts(processor), base_prompts(None)
    lessons = [
        Lesson([ids + prompts.encode(prefixes.answer_prefix(prompt)) for ids in asked[method]], wanted[method])
        for method, prompt in PREFIXED.items()
    ]
    learner.train(lessons, new, written_states(judge, examples[:_NUM_WRITTEN]), recipe)
    save(model, processor, judge)
    return {"recipe": asdict(recipe), "new_tokens": len(new), "seconds": round(time.monotonic() - started)}


def add_sentences(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor) -> list[int]:
    """Make new tokens whose embeddings begin as those of similar ones; returns the ids of those of prefixes."""
    tokenizer, prompts = processor.tokenizer, base_prompts(None)
    like: dict[str, str] = {}
    for name, known in OWN_WORDINGS.items():
        old = sentences_of(known)
        like |= {sentence: old[min(i, len(old) - 1)] for i, sentence in enumerate(sentences_of(name))}
    for prompt in PREFIXED.values():
        like[prompts.answer_prefix(prompt)] = _ANSWER_STARTS
    new = {sentence: origin for sentence, origin in like.items() if sentence not in tokenizer.get_vocab()}
    origins = [tokenizer.convert_tokens_to_ids(origin) for origin in new.values()]
    tokenizer.add_tokens(list(new))
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids = tokenizer.convert_tokens_to_ids(list(new))
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[ids] = weight[origins]
    return [tokenizer.convert_tokens_to_ids(prompts.answer_prefix(prompt)) for prompt in PREFIXED.values()]


def conversations(prompts: Prompts, method: str, examples: Sequence[Example]) -> list[list[int]]:
    """Token ids of a method's question about every example; every second one has its task's requirement."""
    requirements = load_task_prompts(TASKS_DIRECTORY)
    return [
        prompts.token_ids(method, one.task.instruction, requirements[one.task.task if index % 2 else DEFAULT_TASK])
        for index, one in enumerate(examples)
    ]


def _pictures(processor: Qwen2_5_VLProcessor, examples: Sequence[Example]) -> Tensor:
    """[N, 2, patches, values] float16: original, edit."""
    sources = patches(processor, [render(example.task.source) for example in examples])
    return torch.stack([sources, patches(processor, [example.edited for example in examples])], dim=1).half()


@torch.no_grad()
def written_states(judge: Path, examples: Sequence[Example]) -> Tensor:
    """[S, D] states from which the judge and its adapters write their answers, with the answers that they learned."""
    processor = Qwen2_5_VLProcessor.from_pretrained(judge)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(judge, dtype=torch.float32).eval()
    prompts, principles = Prompts(processor), written_principles(judge)
    methods, known = load_methods(judge / "prompts"), [facts(example) for example in examples]
    both = _pictures(processor, examples).float()
    # Adapters that are trained later learn not to write the new tokens.
    adapters = {name: path for name in WRITING if (path := judge / "adapters" / name).is_dir()}
    writers = {"score_logit_cot": (_reasons,)} | {name: answers(name, principles) for name in adapters}
    states = []
    for name, says in writers.items():
        if name in adapters:
            model.load_adapter(str(adapters[name]), adapter_name=name)
            model.set_adapter(name)
        for index, say in enumerate(says):
            asked = [
                prompts.of_method(methods[name], one.task.instruction, _NO_REQUIREMENT, principles)[index]
                for one in examples
            ]
            spoken = [prompts.encode(say(one, 0.5)) for one in known]
            states.append(_states(model, processor, asked, spoken, both))
        if name in adapters:
            model.delete_adapter(name)
    return torch.cat(states)


def _reasons(facts: Facts, _draw: float) -> str:
    return f'{REASONING_START}{facts.sentence}", {SCORE_MARKER}'


def _states(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    asked: Sequence[list[int]],
    spoken: Sequence[list[int]],
    both: Tensor,
) -> Tensor:
    """[S, D] last states at the positions whose next token belongs to an answer, or would follow it."""
    tokenizer = processor.tokenizer
    ids, mask = pad_left([a + s for a, s in zip(asked, spoken, strict=True)], tokenizer.pad_token_id)
    shown = asked[0].count(tokenizer.convert_tokens_to_ids("<|vision_start|>"))  # 1: only the edit
    output = model(
        input_ids=ids,
        attention_mask=mask,
        pixel_values=both[:, -shown:].flatten(0, 2),
        image_grid_thw=grid(shown * len(asked)),
        mm_token_type_ids=(ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int(),
        output_hidden_states=True,
        logits_to_keep=1,
    )
    last = output.hidden_states[-1]
    return torch.cat([last[row, -len(said) - 1 :] for row, said in enumerate(spoken)])


class Learner:
    """Trains the embeddings of new tokens; everything else is frozen. both: [N, 2, patches, values]."""

    def __init__(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        processor: Qwen2_5_VLProcessor,
        both: Tensor,
        generator: torch.Generator,
    ) -> None:
        self._model, self._both, self._generator = model, both, generator
        self._pad_id: int = processor.tokenizer.pad_token_id
        self._image_id: int = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")

    def train(self, lessons: Sequence[Lesson], new: Sequence[int], written: Tensor, recipe: Recipe) -> None:
        """Minimise KL(wanted || found), one lesson per step in turn, and what the new logits exceed their bound by.

        written: [S, D] states from which the judge writes.
        """
        with torch.no_grad():
            logits = written @ self._model.get_input_embeddings().weight.T
            logits[:, list(new)] = -torch.inf
            bounds = logits.logsumexp(-1, keepdim=True) - recipe.margin
        self._model.requires_grad_(False)
        weight = self._model.get_input_embeddings().weight.requires_grad_(True)
        chosen = torch.zeros(len(weight), 1)
        chosen[list(new)] = 1.0
        weight.register_hook(lambda gradient: gradient * chosen)
        optimizer = torch.optim.AdamW([weight], lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
        for step in schedule(optimizer, recipe.steps, recipe.learning_rate, warmup=50, floor=0.02, name="wordings"):
            lesson = lessons[step % len(lessons)]
            rows = torch.randint(len(self._both), (recipe.batch,), generator=self._generator).tolist()
            wanted = lesson.wanted[rows]
            found = self._log_probabilities([lesson.asked[row] for row in rows], self._both[rows])
            # The old vocabulary; what new tokens take of its probability counts as a loss of all others.
            loss = F.kl_div(found[:, : wanted.shape[1]], wanted, reduction="batchmean", log_target=True)
            excess = F.relu(written @ weight[list(new)].T - bounds)
            descend(optimizer, loss + excess.sum(-1).mean())

    @torch.no_grad()
    def answers(self, asked: list[list[int]], chunk: int = 256) -> Tensor:
        """[N, V] log-probabilities of the answer to each conversation."""
        starts = range(0, len(asked), chunk)
        parts = [self._log_probabilities(asked[i : i + chunk], self._both[i : i + chunk]) for i in starts]
        return torch.cat(parts)

    def _log_probabilities(self, asked: list[list[int]], both: Tensor) -> Tensor:
        """[B, V] log-probabilities of the next token."""
        ids, mask = pad_left(asked, self._pad_id)
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            pixel_values=both.float().flatten(0, 2),
            image_grid_thw=grid(2 * len(asked)),
            mm_token_type_ids=(ids == self._image_id).int(),
            logits_to_keep=1,
        )
        return F.log_softmax(output.logits[:, -1], dim=-1)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", type=Path, required=True, help="checkpoint that learns the wordings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = learn_wordings(arguments.judge, Recipe(steps=arguments.steps), arguments.seed)
    kept = json.loads((arguments.judge / "recipe.json").read_text())
    write_json(arguments.judge / "recipe.json", {**kept, "wordings": [*kept.get("wordings", []), record]})
    print(json.dumps(record, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
