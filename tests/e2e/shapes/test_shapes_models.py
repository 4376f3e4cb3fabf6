"""The commands that train the tiny editor and judge, run end to end at a small scale; and the committed weights."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxKontextPipeline
from PIL import Image
from transformers import Qwen2_5_VLProcessor

from edit_r1.worlds.shapes.studies.edit_sets import make_scorer, score_set, untouched_set
from edit_r1.worlds.shapes.training.judge_data import SEEN, draw
from edit_r1.worlds.shapes.training.train_editor import EditorRecipe, train_editor
from edit_r1.worlds.shapes.training.train_judge import JudgeRecipe, train_judge
from edit_r1.worlds.shapes.training.train_reviews import Recipe as ReviewRecipe
from edit_r1.worlds.shapes.training.train_reviews import make_reviews, prepare_judge, train_adapter
from edit_r1.worlds.shapes.world.oracle import SUCCESS_THRESHOLD, score_pixels
from edit_r1.worlds.shapes.world.scenes import render, to_image, to_pixels
from edit_r1.worlds.shapes.world.tasks import sample_task


def test_both_are_rebuilt_small_and_used(tmp_path: Path, shapes_dir: Path) -> None:
    editor, judge, work = tmp_path / "editor", tmp_path / "judge", tmp_path / "work"
    record = train_editor(editor, EditorRecipe(vae_batch=8, batch=8).scaled(0.001), seed=3, work=work, num_tasks=6)
    assert record == json.loads((editor / "recipe.json").read_text())
    train_judge(judge, JudgeRecipe(batch=8).scaled(0.001), seed=3, work=work, sparring=[editor])
    edited = _edit(
        FluxKontextPipeline.from_pretrained(editor), Image.new("RGB", (32, 32)), "add a red star at the top left"
    )
    assert edited.size == (32, 32)
    scores = asyncio.run(score_set(make_scorer(judge), untouched_set(4), "score_logit"))
    assert np.isfinite(scores).all()
    _teach_to_review(judge, shapes_dir)
    later = asyncio.run(score_set(make_scorer(judge), untouched_set(4), "score_logit"))
    np.testing.assert_allclose(later, scores, atol=0.02)  # new words, the same judgement
    assert np.isfinite(asyncio.run(score_set(make_scorer(judge), untouched_set(4), "verifier"))).all()


def _teach_to_review(judge: Path, shapes_dir: Path) -> None:
    for name in ("prompts", "principles"):
        shutil.copytree(shapes_dir / "judge" / name, judge / name)
    rng = np.random.default_rng(0)
    processor = Qwen2_5_VLProcessor.from_pretrained(judge)
    reviews = make_reviews(processor, [draw(rng, "train", SEEN) for _ in range(40)])
    prepare_judge(judge, reviews, seed=0)
    words = json.loads((judge / "recipe.json").read_text())["new_words"]
    assert {"{", "[", ":"} <= {*words}
    assert not {"0", "Yes", "No"} & {*words}
    record = train_adapter(judge, "verifier", reviews, ReviewRecipe(steps=2, batch=8), seed=0)
    assert record == json.loads((judge / "adapters" / "verifier" / "recipe.json").read_text())


def test_the_committed_editor_edits_with_the_plain_pipeline(shapes_dir: Path) -> None:
    """The files work with plain diffusers: from_pretrained and __call__ give edits, about half of them right."""
    pipeline = FluxKontextPipeline.from_pretrained(shapes_dir / "editor")
    rng = np.random.default_rng(5)
    tasks = [sample_task(rng, "held_out") for _ in range(24)]
    scores = []
    for task in tasks:
        edited = _edit(pipeline, to_image(render(task.source)), task.instruction)
        scores.append(score_pixels(render(task.source), render(task.target), to_pixels(edited)))
    assert 0.2 < np.mean(np.array(scores) >= SUCCESS_THRESHOLD) < 0.8


def test_the_committed_weights_stay_small(shapes_dir: Path) -> None:
    weights = [*shapes_dir.rglob("*.safetensors")]
    assert weights
    assert sum(path.stat().st_size for path in weights) <= 20e6


def _edit(pipeline: FluxKontextPipeline, source: Image.Image, instruction: str) -> Image.Image:
    pipeline.set_progress_bar_config(disable=True)
    image: Image.Image = pipeline(
        image=source,
        prompt=instruction,
        height=32,
        width=32,
        num_inference_steps=6,
        max_area=32 * 32,
        max_sequence_length=12,
        generator=torch.Generator().manual_seed(0),
        _auto_resize=False,
    ).images[0]
    return image
