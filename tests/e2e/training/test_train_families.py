"""Every model family in the whole trainer, with images of several shapes and, if supported, several sources."""

import itertools
import json

import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from edit_r1.trainer.models import FAMILIES, max_sources
from edit_r1.trainer.records.records import read_rollouts
from tests.support.color_judge import ColorJudge, serving
from tests.support.tiny_families import build_tiny_flux2, build_tiny_qwen, build_tiny_qwen_plus, build_tiny_uniworld
from tests.support.tiny_run import TinyRun, metrics, weights

BUILDERS = {
    "qwen_image_edit": build_tiny_qwen,
    "qwen_image_edit_plus": build_tiny_qwen_plus,
    "flux2_klein": build_tiny_flux2,
    "examples.uniworld_style:UniWorldStyle": build_tiny_uniworld,
}
TRUE_CFG = {"qwen_image_edit": "4", "qwen_image_edit_plus": "4"}
"""Scales of true classifier-free guidance, where the checkpoint has a negative branch; the others sample without."""
SHAPES = [(64, 64), (100, 52), (30, 61)]
BUCKETS = {(64, 64), (96, 48), (48, 96), (88, 48), (48, 88)}
"""Buckets of about 64 x 64 pixels for those shapes, in multiples of 8."""


@pytest.fixture(params=BUILDERS)
def tiny(request, tmp_path):
    """A run of that family; its tasks have one source up to the family's maximum, each with a different shape."""
    run = TinyRun(tmp_path / "tiny")
    shapes = itertools.cycle(SHAPES)
    for name, num_tasks in (("train", 5), ("held_out", 4)):
        lines = []
        for index in range(num_tasks):
            images = []
            for number in range(1 + index % max_sources(request.param)):
                images.append(f"images/{name}-{index}-{number}.png")
                Image.new("RGB", next(shapes), (50 * index, 90, 60 * number)).save(run.folder / images[-1])
            lines.append(json.dumps({"prompt": f"make it red {'very ' * index}", "image": images}))
        (run.folder / f"{name}.jsonl").write_text("\n".join(lines))
    return run, request.param, BUILDERS[request.param](tmp_path / "editor")


def test_it_trains(tiny, tmp_path):
    run, family, editor = tiny
    overrides = [
        f"model.family={family}",
        f"model.path={editor}",
        "model.width=64",
        "model.height=64",
        "model.aspect=buckets",
        "model.max_text_tokens=null",
        "rollout.batch_groups=3",
        f"rollout.true_cfg={TRUE_CFG.get(family, 'null')}",
        "evaluation.metrics={}",
        "report.groups=3",
        "epochs=1",
    ]
    run_dir = tmp_path / "run"
    with serving(ColorJudge()) as url:
        run.train(url, run_dir, *overrides)
    (line,) = [line for line in metrics(run_dir) if "nft/loss" in line]
    assert line["filter/kept_fraction"] > 0
    policy = weights(run_dir, 1, "policy/pytorch_lora_weights.safetensors")
    assert any(value.abs().max() > 0 for key, value in policy.items() if "lora_B" in key)
    shown = read_rollouts(run_dir)
    sizes = {
        Image.open(folder / name).size
        for folder, rollouts in shown
        for group in rollouts.groups
        for name in (group.source, *group.candidates)
    }
    assert sizes <= BUCKETS
    assert len(sizes) > 1
    assert all(torch.isfinite(value).all() for value in policy.values())
    if family not in FAMILIES:
        return
    # Its adapter loads in plain diffusers.
    pipeline = DiffusionPipeline.from_pretrained(editor)
    pipeline.load_lora_weights(run_dir / "lora")
    loaded = [name for name, value in pipeline.transformer.named_parameters() if "lora_" in name]
    assert len(loaded) == len(policy)
