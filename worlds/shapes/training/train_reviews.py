"""Teach the tiny judge to review: `python -m edit_r1.worlds.shapes.training.train_reviews --judge worlds/shapes/judge`.

Trains one LoRA adapter per method on the judge's own prompts and principles, and writes it to
`<judge>/adapters/<method>`. The judge's blocks are not changed; before its first adapter, new words of the answers are
made learnable (`judge_vocabulary`). Uses the split "train" of the world, half of it edits by sparring editors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from edit_r1.reward_service.methods import load_methods
from edit_r1.reward_service.methods.templates import TASKS_DIRECTORY, load_task_prompts
from edit_r1.reward_service.scoring.principles import WrittenPrinciples
from edit_r1.reward_service.types import Brief, Principle
from edit_r1.shared.files import write_json
from edit_r1.shared.schemas import DEFAULT_TASK
from edit_r1.worlds.shapes.training.judge_data import SEEN, Example, draw
from edit_r1.worlds.shapes.training.judge_model import END, Prompts, grid, pad_left, patches
from edit_r1.worlds.shapes.training.judge_vocabulary import make_room
from edit_r1.worlds.shapes.training.optimizing import descend, schedule
from edit_r1.worlds.shapes.training.review_data import Facts, answers, facts
from edit_r1.worlds.shapes.training.train_judge import JudgeRecipe, sparring_examples
from edit_r1.worlds.shapes.world.scenes import render

NUM_EXAMPLES = 12_000
NUM_LOOKED_AT = 200
"""Number of examples whose answers are analysed to find unused directions for new words."""


@dataclass(frozen=True)
class Recipe:
    """Sizes and steps for one adapter."""

    steps: int = 1500
    learning_rate: float = 3e-3
    batch: int = 48
    rank: int = 16
    closing_tokens: int = 0
    """Number of tokens at the end of an answer (its numbers, after the reasoning) that get weight `closing_weight`."""
    closing_weight: float = 1.0
    targets: str = r".*language_model.*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


RECIPES = {
    "score_logit_direct": Recipe(steps=2000, rank=8),
    "yes_no_logit_direct": Recipe(steps=1200, rank=8),
    "verifier": Recipe(steps=2000, rank=8),
    "editscore": Recipe(steps=1500, closing_tokens=10, closing_weight=4.0),
    "unified_reward": Recipe(steps=600),
    "verifier_cot": Recipe(steps=1000, batch=24),  # its answers are long
}


@dataclass(frozen=True)
class Reviews:
    """Edits as the judge sees them, and the facts about them."""

    examples: tuple[Example, ...]
    facts: tuple[Facts, ...]
    patches: Tensor
    """[N, 2, patches, values] float16: original, edit."""


def make_reviews(processor: Qwen2_5_VLProcessor, examples: Sequence[Example]) -> Reviews:
    """Preprocess every example once."""
    sources = patches(processor, [render(example.task.source) for example in examples])
    edits = patches(processor, [example.edited for example in examples])
    both = torch.stack([sources, edits], dim=1).half()
    return Reviews(tuple(examples), tuple(facts(example) for example in examples), both)


class Reviewer:
    """Teacher forcing of one method's answers."""

    def __init__(self, judge: Path, processor: Qwen2_5_VLProcessor, generator: torch.Generator) -> None:
        self._methods = load_methods(judge / "prompts")
        self._principles = written_principles(judge)
        self._prompts = Prompts(processor)
        self._tasks = load_task_prompts(TASKS_DIRECTORY)
        tokenizer = processor.tokenizer
        self._pad_id, self._end_id = tokenizer.pad_token_id, tokenizer.convert_tokens_to_ids(END)
        self._image_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._vision_start_id = tokenizer.convert_tokens_to_ids("<|vision_start|>")
        self._generator = generator

    def train(self, model: PeftModel, method: str, reviews: Reviews, recipe: Recipe) -> None:
        """Take the recipe's steps, rotating through the method's questions."""
        says = answers(method, self._principles)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
        model.train()
        for step in schedule(optimizer, recipe.steps, recipe.learning_rate, warmup=50, floor=0.02, name=method):
            index = step % len(says)
            rows = torch.randint(len(reviews.facts), (recipe.batch,), generator=self._generator).tolist()
            draws = torch.rand(len(rows), generator=self._generator).tolist()
            prompts = [self._prompt(method, index, reviews.examples[row]) for row in rows]
            said = [says[index](reviews.facts[row], draw) for row, draw in zip(rows, draws, strict=True)]
            descend(optimizer, self._loss(model, prompts, said, reviews.patches[rows], recipe))

    def _prompt(self, method: str, index: int, example: Example) -> list[int]:
        task = example.task
        named = torch.rand((), generator=self._generator) < 0.5
        requirement = self._tasks[task.task if named else DEFAULT_TASK]
        return self._prompts.of_method(self._methods[method], task.instruction, requirement, self._principles)[index]

    def _loss(
        self, model: PeftModel, prompts: list[list[int]], said: list[str], both: Tensor, recipe: Recipe
    ) -> Tensor:
        """Weighted mean negative log-likelihood of the answers' tokens."""
        spoken = [[*self._prompts.encode(text), self._end_id] for text in said]
        ids, mask = pad_left([p + a for p, a in zip(prompts, spoken, strict=True)], self._pad_id)
        shown = prompts[0].count(self._vision_start_id)  # 1: only the edit
        output = model(
            input_ids=ids,
            attention_mask=mask,
            pixel_values=both[:, -shown:].float().flatten(0, 2),
            image_grid_thw=grid(shown * len(prompts)),
            mm_token_type_ids=(ids == self._image_id).int(),
        )
        lengths = torch.tensor([len(answer) for answer in spoken])
        places = torch.arange(ids.shape[1])[None]
        weights = (places >= (ids.shape[1] - lengths)[:, None]).float()
        weights[:, ids.shape[1] - recipe.closing_tokens :] *= recipe.closing_weight
        losses = F.cross_entropy(output.logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
        return (weights[:, 1:] * losses).sum() / weights.sum()


def written_principles(judge: Path) -> tuple[Principle, ...]:
    """The judge's own principles; they do not depend on the edit."""
    brief = Brief("", "", DEFAULT_TASK, ())
    return asyncio.run(WrittenPrinciples(judge / "principles").of(brief))


def prepare_judge(judge: Path, reviews: Reviews, seed: int) -> None:
    """Make the words of the adapters' answers learnable, once per judge."""
    recipe = json.loads((judge / "recipe.json").read_text())
    if "new_words" in recipe:
        return
    processor = Qwen2_5_VLProcessor.from_pretrained(judge)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(judge, dtype=torch.float32)
    prompts, principles = Prompts(processor), written_principles(judge)
    texts = {say(one, 0.5) for name in RECIPES for say in answers(name, principles) for one in reviews.facts[:4000]}
    tokens = {token for text in texts for token in prompts.encode(text)}
    requirements = list(load_task_prompts(TASKS_DIRECTORY).values())
    generator = torch.Generator().manual_seed(seed)
    new = make_room(
        model,
        processor,
        reviews.examples[:NUM_LOOKED_AT],
        tokens=tokens,
        requirements=requirements,
        generator=generator,
    )
    model.save_pretrained(judge)
    recipe["new_words"] = processor.tokenizer.convert_ids_to_tokens(new)
    write_json(judge / "recipe.json", recipe)


def train_adapter(judge: Path, method: str, reviews: Reviews, recipe: Recipe, seed: int) -> dict[str, object]:
    """Train and write one adapter with its `recipe.json`; returns the content of the latter."""
    torch.manual_seed(seed)
    started = time.monotonic()
    processor = Qwen2_5_VLProcessor.from_pretrained(judge)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(judge, dtype=torch.float32)
    lora = LoraConfig(r=recipe.rank, lora_alpha=2 * recipe.rank, target_modules=recipe.targets)
    adapted = get_peft_model(model, lora)
    Reviewer(judge, processor, torch.Generator().manual_seed(seed)).train(adapted, method, reviews, recipe)
    out = judge / "adapters" / method
    adapted.peft_config["default"].base_model_name_or_path = "shapes-judge"  # instead of a local path
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Could not find a config file")  # "shapes-judge" is only a name
        adapted.save_pretrained(str(out))
    (out / "README.md").unlink(missing_ok=True)
    record = {"seed": seed, "recipe": asdict(recipe), "seconds": round(time.monotonic() - started)}
    write_json(out / "recipe.json", record)
    return record


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", type=Path, required=True, help="checkpoint that gets the adapters")
    parser.add_argument("--methods", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sparring", type=Path, nargs="*", default=[], help="directories of sparring editors")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng([arguments.seed, 5])
    examples = [draw(rng, "train", SEEN) for _ in range(NUM_EXAMPLES)]
    examples += sparring_examples(JudgeRecipe(), arguments.seed, arguments.sparring)
    reviews = make_reviews(Qwen2_5_VLProcessor.from_pretrained(arguments.judge), examples)
    prepare_judge(arguments.judge, reviews, arguments.seed)
    for method in arguments.methods:
        record = train_adapter(arguments.judge, method, reviews, RECIPES[method], arguments.seed)
        print(method, json.dumps(record))  # noqa: T201


if __name__ == "__main__":
    main()
