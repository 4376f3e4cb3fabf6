"""Train the tiny judge: `python -m edit_r1.worlds.shapes.training.train_judge --out worlds/shapes/judge --seed 0`.

Stages: the vision encoder learns to name what it sees (seconds); the whole judge learns from scenes and damaged edits;
then it continues with half of each batch from *sparring* editors (other seeds and checkpoints than the committed
editor, which it never sees), because a judge that has not seen an editor's own mistakes rewards some of them.
All training uses the split "train" of the world. `studies.judge_table` evaluates the committed judge.
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
from transformers import Qwen2_5_VLForConditionalGeneration

from edit_r1.shared.files import write_json
from edit_r1.worlds.shapes.training.editor_model import load_family, oracle_scores, sample_edits
from edit_r1.worlds.shapes.training.judge_data import SEEN, Example, draw
from edit_r1.worlds.shapes.training.judge_model import HIDDEN, build_model, build_processor, save
from edit_r1.worlds.shapes.training.judge_trainer import Heads, JudgeTrainer, Pool, make_pool, train_vision
from edit_r1.worlds.shapes.training.stages import Recipe, keep_stage
from edit_r1.worlds.shapes.world.tasks import sample_task

DEFAULT_WORK = Path(".cache/shapes_judge")


_SCENES = (
    "hidden",
    "num_examples",
    "vision_steps",
    "vision_learning_rate",
    "scene_steps",
    "learning_rate",
    "auxiliary_weight",
    "batch",
)
"""Fields that the cached stage depends on; the others concern sparring."""


@dataclass(frozen=True)
class JudgeRecipe(Recipe):
    """Steps and sizes of the stages."""

    SCALED = ("num_examples", "vision_steps", "scene_steps", "sparring_tasks", "sparring_steps")
    hidden: int = HIDDEN
    """Width of the judge, a multiple of 64."""
    num_examples: int = 16_000
    vision_steps: int = 500
    vision_learning_rate: float = 2e-3
    scene_steps: int = 2000
    learning_rate: float = 1.5e-3
    auxiliary_weight: float = 1.0
    sparring_tasks: int = 1000
    """Number of tasks edited by each sparring editor, with four candidates per task."""
    sparring_steps: int = 900
    sparring_learning_rate: float = 6e-4
    sparring_share: float = 0.5
    """Share of each batch that comes from sparring editors."""
    batch: int = 64


def train_judge(
    out: Path, recipe: JudgeRecipe, *, seed: int, work: Path, sparring: Sequence[Path] = ()
) -> dict[str, object]:
    """Run the stages; writes the checkpoint and `recipe.json` to `out` and returns the content of the latter."""
    torch.set_num_threads(1)
    first_stage = work / f"scenes-{seed}-{recipe.hidden}"
    rng = np.random.default_rng([seed, 3])
    processor = build_processor()
    scenes = make_pool(processor, [draw(rng, "train", SEEN) for _ in range(recipe.num_examples)])
    made_by = {"seed": seed, **recipe.part(*_SCENES)}
    seconds = {"scenes": keep_stage(first_stage, made_by, lambda kept: _train_on_scenes(kept, recipe, seed, scenes))}
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(first_stage, dtype=torch.float32)
    if sparring:
        started = time.monotonic()
        heads = Heads(recipe.hidden)
        heads.load_state_dict(torch.load(first_stage / "heads.pt", weights_only=True))
        generator = torch.Generator().manual_seed(seed + 1)
        trainer = JudgeTrainer(model, processor, heads, batch=recipe.batch, generator=generator)
        spars = make_pool(processor, sparring_examples(recipe, seed, sparring))
        pools = [(scenes, 1 - recipe.sparring_share), (spars, recipe.sparring_share)]
        trainer.train(
            pools, steps=recipe.sparring_steps, rate=recipe.sparring_learning_rate, auxiliary=recipe.auxiliary_weight
        )
        seconds["sparring"] = round(time.monotonic() - started)
    save(model, processor, out)
    record = {"seed": seed, "recipe": asdict(recipe), "seconds": seconds, "sparring_editors": len(sparring)}
    write_json(out / "recipe.json", record)
    return record


def sparring_examples(recipe: JudgeRecipe, seed: int, editors: Sequence[Path]) -> list[Example]:
    """Edits by the sparring editors, sampled with 4 to 8 steps, with their oracle scores."""
    examples: list[Example] = []
    for index, directory in enumerate(editors):
        rng = np.random.default_rng([seed, 4, index])
        tasks = [sample_task(rng, "train") for _ in range(recipe.sparring_tasks)]
        edits = sample_edits(load_family(directory), tasks, 4, steps=int(rng.integers(4, 9)), seed=seed + index)
        for task, row, scores in zip(tasks, edits, oracle_scores(tasks, edits), strict=True):
            examples += [Example(task, edited, float(score)) for edited, score in zip(row, scores, strict=True)]
    return examples


def _train_on_scenes(directory: Path, recipe: JudgeRecipe, seed: int, scenes: Pool) -> None:
    torch.manual_seed(seed)
    processor, generator = build_processor(), torch.Generator().manual_seed(seed)
    model, heads = build_model(processor, hidden=recipe.hidden), Heads(recipe.hidden)
    train_vision(model, heads, scenes, steps=recipe.vision_steps, rate=recipe.vision_learning_rate, generator=generator)
    trainer = JudgeTrainer(model, processor, heads, batch=recipe.batch, generator=generator)
    trainer.train(
        [(scenes, 1.0)], steps=recipe.scene_steps, rate=recipe.learning_rate, auxiliary=recipe.auxiliary_weight
    )
    save(model, processor, directory)
    torch.save(heads.state_dict(), directory / "heads.pt")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory of the finished checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the recipe's steps and examples")
    parser.add_argument("--hidden", type=int, default=HIDDEN, help="width of the judge, a multiple of 64")
    parser.add_argument("--sparring", type=Path, nargs="*", default=[], help="directories of sparring editors")
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="directory for cached stages")
    arguments = parser.parse_args()
    recipe = JudgeRecipe(hidden=arguments.hidden).scaled(arguments.scale)
    record = train_judge(arguments.out, recipe, seed=arguments.seed, work=arguments.work, sparring=arguments.sparring)
    print(json.dumps(record, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
