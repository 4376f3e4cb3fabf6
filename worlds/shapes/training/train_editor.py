"""Train the tiny editor: `python -m edit_r1.worlds.shapes.training.train_editor --out worlds/shapes/editor --seed 0`.

Three stages; the first two are cached in the work directory and reused if present:
1. the VAE, on scenes;
2. supervised fine-tuning on right edits, with auxiliary heads that predict each token's shape, colour and background
   (discarded afterwards): without them the transformer takes four times as long to learn the edits;
3. a short fine-tuning on a mixture in which some targets are wrong, mostly unedited. This provides what reinforcement
   learning needs: groups with both right and wrong edits, instead of tasks that always fail.
All training uses the split "train" of the world; success is measured on "held_out".
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from diffusers import AutoencoderKL, FluxKontextPipeline
from PIL import Image
from torch import Tensor, nn

from edit_r1.shared.files import write_json
from edit_r1.trainer.mathematics.flow import interpolate
from edit_r1.trainer.models.base import Conditioning
from edit_r1.trainer.models.flux_kontext import FluxKontext
from edit_r1.worlds.shapes.training.editor_model import (
    MAX_TEXT_TOKENS,
    as_family,
    build_pipeline,
    build_tokenizer,
    build_vae,
    encode_pixels,
    instruction_words,
    oracle_scores,
    sample_edits,
    summarise,
)
from edit_r1.worlds.shapes.training.optimizing import descend, schedule
from edit_r1.worlds.shapes.training.stages import Recipe, keep_stage, read_made_by
from edit_r1.worlds.shapes.world.scenes import BACKGROUNDS, COLORS, SHAPES, SIZE, Item, Pixels, Scene, render
from edit_r1.worlds.shapes.world.tasks import sample_scene, sample_task, wrong_edit

DEFAULT_WORK = Path(".cache/shapes_editor")
AUXILIARY_WEIGHT = 0.15
_SHAPE_CLASSES, _COLOR_CLASSES, _BACKGROUND_CLASSES = len(SHAPES) + 1, len(COLORS) + 1, len(BACKGROUNDS)
_TOKENS_PER_SIDE = 4  # 16 latent tokens per image, 2x2 of them per cell


@dataclass(frozen=True)
class EditorRecipe(Recipe):
    """Steps and sizes of the three stages."""

    SCALED = ("vae_steps", "clean_steps", "mixture_steps", "num_examples")
    vae_steps: int = 2400
    vae_learning_rate: float = 3e-3
    vae_batch: int = 32
    clean_steps: int = 2200
    clean_learning_rate: float = 2e-3
    mixture_steps: int = 200
    mixture_learning_rate: float = 8e-4
    right_share: float = 0.6
    """Share of right targets in the mixture."""
    batch: int = 64
    num_examples: int = 10_000


@dataclass(frozen=True)
class Examples:
    """Encoded training pairs; N examples, S latent tokens, C latent channels."""

    sources: Tensor
    """[N, S, C]."""
    targets: Tensor
    """[N, S, C]."""
    text_ids: Tensor
    """[N, MAX_TEXT_TOKENS] int64."""
    labels: Tensor
    """[N, S, 3] int64: class of shape, colour and background at each token of the target."""


def train_editor(
    out: Path, recipe: EditorRecipe, *, seed: int, work: Path, vae: Path | None = None, num_tasks: int = 256
) -> dict[str, object]:
    """Run the stages; writes the pipeline and `recipe.json` to `out` and returns the content of the latter.

    Args:
        out: directory of the pipeline.
        recipe: steps and sizes.
        seed: seed of weights and examples.
        work: directory where the first two stages are cached.
        vae: a cached first stage of any recipe, instead of one with this recipe and seed.
        num_tasks: number of held-out tasks to evaluate the editor on.

    """
    torch.set_num_threads(1)
    seconds: dict[str, float] = {}
    if vae is None:
        vae, made_by = work / f"vae-{seed}", recipe.part("vae_steps", "vae_learning_rate", "vae_batch")
        seconds["vae"] = keep_stage(
            vae, {"vae_seed": seed, **made_by}, lambda kept: train_vae(recipe, seed).save_pretrained(kept)
        )
    clean = work / f"clean-{seed}"
    made_by = recipe.part("clean_steps", "clean_learning_rate", "batch", "num_examples")
    seconds["clean"] = keep_stage(
        clean, {"seed": seed, **made_by, **read_made_by(vae)}, lambda kept: _train_clean(kept, recipe, seed, vae)
    )
    pipeline = FluxKontextPipeline.from_pretrained(clean)
    measured = {"clean": measure(as_family(pipeline), num_tasks)}
    started = time.monotonic()
    _fine_tune(pipeline, recipe, seed, right_share=recipe.right_share, with_heads=False)
    seconds["mixture"] = round(time.monotonic() - started)
    measured["final"] = measure(as_family(pipeline), num_tasks)
    pipeline.save_pretrained(out)
    record = {"seed": seed, "recipe": asdict(recipe), "seconds": seconds, "held_out": measured}
    write_json(out / "recipe.json", record)
    return record


def train_vae(recipe: EditorRecipe, seed: int) -> AutoencoderKL:
    """Autoencoder of scenes, trained on absolute and squared error with noise on the latents."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    vae = build_vae().to(memory_format=torch.channels_last)
    pictures = np.stack([render(sample_scene(rng, "train", max_items=4)) for _ in range(4000)])
    optimizer = torch.optim.AdamW(vae.parameters(), lr=recipe.vae_learning_rate, weight_decay=0.0)
    for _ in schedule(optimizer, recipe.vae_steps, recipe.vae_learning_rate, warmup=50, floor=0.03, name="vae"):
        x = _to_tensor(pictures[rng.integers(0, len(pictures), recipe.vae_batch)])
        latents = vae.encode(x).latent_dist.mean
        y = vae.decode(latents + 0.03 * torch.randn_like(latents)).sample
        loss = (y - x).abs().mean() + (y - x).square().mean() + 2e-4 * latents.square().mean()
        descend(optimizer, loss)
    with torch.no_grad():
        latents = vae.encode(_to_tensor(pictures[:256])).latent_dist.mean
    vae.register_to_config(scaling_factor=float(1 / latents.std()), shift_factor=float(latents.mean()))
    return vae.eval().requires_grad_(False)


def make_examples(
    family: FluxKontext, tokenizer: object, recipe: EditorRecipe, seed: int, right_share: float
) -> Examples:
    """Sample training pairs; a share of 1 - right_share of the targets are wrong edits."""
    rng = np.random.default_rng([seed, 2, round(100 * right_share)])
    sources, targets, texts, labels = [], [], [], []
    for _ in range(recipe.num_examples):
        task = sample_task(rng, "train")
        target = task.target if rng.random() < right_share else wrong_edit(rng, task)
        sources.append(render(task.source))
        targets.append(render(target))
        texts.append(task.instruction)
        labels.append(_token_labels(target))
    return Examples(
        encode_pixels(family, sources), encode_pixels(family, targets), text_ids(tokenizer, texts), torch.tensor(labels)
    )


def text_ids(tokenizer: object, texts: Sequence[str]) -> Tensor:
    """Token ids as computed by the pipeline's encode_prompt, [N, MAX_TEXT_TOKENS]."""
    encoded = tokenizer(  # type: ignore[operator]  # transformers ships no types
        list(texts), padding="max_length", max_length=MAX_TEXT_TOKENS, truncation=True, return_tensors="pt"
    )
    ids: Tensor = encoded.input_ids
    return ids


def measure(family: FluxKontext, num_tasks: int, group_size: int = 12) -> dict[str, float]:
    """Success on held-out tasks: one sample for each of `num_tasks`, and groups for a fifth of them for the spread."""
    rng = np.random.default_rng(99)
    tasks = [sample_task(rng, "held_out") for _ in range(num_tasks)]
    few = tasks[: max(6, num_tasks // 5)]
    singles = summarise(tasks, oracle_scores(tasks, sample_edits(family, tasks, 1)))
    groups = summarise(few, oracle_scores(few, sample_edits(family, few, group_size)))
    spread = {name: groups[name] for name in ("mixed_groups", "success_best_of_group", "std_within_group")}
    return {name: round(value, 3) for name, value in {**singles, **spread}.items()}


def _train_clean(directory: Path, recipe: EditorRecipe, seed: int, vae: Path) -> None:
    encoder = AutoencoderKL.from_pretrained(vae)
    torch.manual_seed(seed)
    pipeline = build_pipeline(encoder, build_tokenizer(instruction_words()))
    _fine_tune(pipeline, recipe, seed, right_share=1.0, with_heads=True)
    pipeline.save_pretrained(directory)


def _fine_tune(
    pipeline: FluxKontextPipeline, recipe: EditorRecipe, seed: int, *, right_share: float, with_heads: bool
) -> None:
    """Train transformer and text encoders with flow matching on sampled pairs."""
    torch.manual_seed(seed + 1)
    family = as_family(pipeline)
    examples = make_examples(family, pipeline.tokenizer, recipe, seed, right_share)
    heads = AuxiliaryHeads(pipeline.transformer) if with_heads else None
    trained = [pipeline.transformer, pipeline.text_encoder, pipeline.text_encoder_2, *([heads] if heads else [])]
    parameters = [p for module in trained for p in module.requires_grad_(True).train().parameters()]
    steps, rate, warmup = (
        (recipe.clean_steps, recipe.clean_learning_rate, 80)
        if with_heads
        else (recipe.mixture_steps, recipe.mixture_learning_rate, 20)
    )
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    shared = family.encode([""], [[Image.new("RGB", (SIZE, SIZE))]]).shared
    name = "right edits" if with_heads else "mixture"
    for _ in schedule(optimizer, steps, rate, warmup=warmup, floor=0.05, name=name):
        rows = torch.randint(len(examples.targets), (recipe.batch,))
        loss = _flow_matching_loss(family, pipeline, examples, rows, shared)
        if heads is not None:
            loss = loss + AUXILIARY_WEIGHT * heads.loss(examples.labels[rows])
        descend(optimizer, loss)
    if heads is not None:
        heads.remove()
    for module in trained:
        module.requires_grad_(False).eval()


def _flow_matching_loss(
    family: FluxKontext, pipeline: FluxKontextPipeline, examples: Examples, rows: Tensor, shared: Mapping[str, Tensor]
) -> Tensor:
    ids, x0 = examples.text_ids[rows], examples.targets[rows]
    batched = {
        "tokens": pipeline.text_encoder_2(ids)[0],
        "pooled": pipeline.text_encoder(ids).pooler_output,
        "source": examples.sources[rows],
    }
    # Early times determine which edit is made, so they are sampled more often than late ones.
    t = torch.sigmoid(1.2 * torch.randn(len(rows)) + 0.9)
    noise = torch.randn_like(x0)
    velocity = family.velocity(interpolate(x0, noise, t), t, Conditioning(batched, shared))
    return (velocity - (noise - x0)).square().mean()


class AuxiliaryHeads(nn.Module):
    """Linear heads on two blocks' image tokens that predict what the target shows there; only for training."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        width = _SHAPE_CLASSES + _COLOR_CLASSES + _BACKGROUND_CLASSES
        self.readers = nn.ModuleList([nn.Linear(transformer.inner_dim, width) for _ in range(2)])
        self._hidden: list[Tensor] = []
        blocks = (transformer.transformer_blocks[-1], transformer.single_transformer_blocks[1])
        self._hooks = [block.register_forward_hook(self._remember) for block in blocks]

    def loss(self, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the heads on the last forward pass; labels [B, S, 3]."""
        total = torch.zeros(())
        for reader, hidden in zip(self.readers, self._hidden, strict=True):
            logits = reader(hidden[:, : labels.shape[1]])
            parts = logits.split([_SHAPE_CLASSES, _COLOR_CLASSES, _BACKGROUND_CLASSES], dim=-1)
            for kind, part in enumerate(parts):
                total = total + F.cross_entropy(part.flatten(0, 1), labels[..., kind].flatten()) / len(parts)
        self._hidden.clear()
        return total

    def remove(self) -> None:
        """Detach from the transformer."""
        for hook in self._hooks:
            hook.remove()

    def _remember(self, _module: nn.Module, _inputs: object, output: tuple[Tensor, Tensor]) -> None:
        self._hidden.append(output[1])  # both kinds of blocks return (text tokens, image tokens)


def _token_labels(scene: Scene) -> list[tuple[int, int, int]]:
    """Classes at the 16 tokens of an image, row by row."""
    background = list(BACKGROUNDS).index(scene.background)
    classes = [(*_item_classes(item), background) for item in scene.cells]
    half = _TOKENS_PER_SIDE // 2
    places = [(row // half, column // half) for row in range(_TOKENS_PER_SIDE) for column in range(_TOKENS_PER_SIDE)]
    return [classes[2 * cell_row + cell_column] for cell_row, cell_column in places]


def _item_classes(item: Item | None) -> tuple[int, int]:
    return (0, 0) if item is None else (1 + SHAPES.index(item.shape), 1 + list(COLORS).index(item.color))


def _to_tensor(pictures: Pixels) -> Tensor:
    """uint8 [B, 32, 32, 3] -> float32 [B, 3, 32, 32] in [-1, 1]."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory of the finished pipeline")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the recipe's steps and examples")
    parser.add_argument(
        "--right-share", type=float, default=EditorRecipe.right_share, help="share of right targets in the mixture"
    )
    parser.add_argument("--vae", type=Path, help="cached VAE to use, WORK/vae-SEED of another run; default: train one")
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="directory for cached stages")
    arguments = parser.parse_args()
    recipe = EditorRecipe(right_share=arguments.right_share).scaled(arguments.scale)
    record = train_editor(arguments.out, recipe, seed=arguments.seed, work=arguments.work, vae=arguments.vae)
    print(json.dumps(record, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
