"""Rollouts with true classifier-free guidance, by a real policy."""

import torch
from PIL import Image

from edit_r1.shared.sources import FileSource
from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.mathematics.sizes import one_size
from edit_r1.trainer.models.base import LoadOptions
from edit_r1.trainer.models.qwen_image_edit import QwenImageEdit
from edit_r1.trainer.models.sampling import TrueCfg
from edit_r1.trainer.policy.lora import LoraPolicy
from edit_r1.trainer.rollout.rollout import roll_out
from edit_r1.trainer.rollout.units import units_of
from edit_r1.trainer.types import EditTask, TaskGroup
from tests.support.tiny_families import build_tiny_qwen


def test_guidance_changes_the_candidates_and_nothing_that_the_loss_gets(tmp_path):
    family = QwenImageEdit.load(
        str(build_tiny_qwen(tmp_path / "editor")), LoadOptions(guidance=2.5, device=torch.device("cpu"))
    )
    policy = LoraPolicy(family.transformer, rank=4, alpha=8, targets=family.lora_targets, seed=0)
    Image.new("RGB", (32, 32), "red").save(tmp_path / "source.png")
    texts = ("make the circle red", "remove the square")
    tasks = [EditTask(text, text, (FileSource(tmp_path / "source.png"),), None, None, {}) for text in texts]
    units = units_of(
        [TaskGroup(1, index, task) for index, task in enumerate(tasks)], group_size=3, batch_groups=2, parts=1
    )

    def made(true_cfg):
        return list(
            roll_out(
                family,
                policy,
                units,
                num_steps=3,
                noise_level=None,
                choose_size=one_size((32, 32)),
                seed=0,
                processes=Processes(60),
                true_cfg=true_cfg,
            )
        )

    plain, guided = made(None), made(TrueCfg(4.0, texts[0]))
    # Guided away from its own instruction, the first group is as it was.
    torch.testing.assert_close(guided[0].x0, plain[0].x0, atol=1e-4, rtol=0)
    assert (guided[1].x0 - plain[1].x0).abs().max() > 1e-3
    for one, other in zip(plain, guided, strict=True):
        assert torch.equal(one.sigmas, other.sigmas)
        assert one.conditioning.batched.keys() == other.conditioning.batched.keys()
        assert all(
            torch.equal(value, other.conditioning.batched[name]) for name, value in one.conditioning.batched.items()
        )
