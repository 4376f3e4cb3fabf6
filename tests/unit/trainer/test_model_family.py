"""The contract of model families, tested on all of them."""

import importlib
from unittest.mock import patch

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from edit_r1.shared.errors import ConfigError, DataError
from edit_r1.trainer.held_out.evaluation import edit_by_euler
from edit_r1.trainer.models import FAMILIES, family_class, family_of_pipeline, max_sources
from edit_r1.trainer.models.base import Conditioning, LoadOptions
from edit_r1.trainer.models.sampling import TrueCfg
from edit_r1.trainer.rollout.velocity import sampling_velocity
from edit_r1.worlds.shapes.training.editor_model import MAX_TEXT_TOKENS
from tests.support.tiny_editor import build_tiny_editor
from tests.support.tiny_families import build_tiny_flux2, build_tiny_qwen, build_tiny_qwen_plus, build_tiny_uniworld

BUILDERS = {
    "flux_kontext": build_tiny_editor,
    "qwen_image_edit": build_tiny_qwen,
    "qwen_image_edit_plus": build_tiny_qwen_plus,
    "flux2_klein": build_tiny_flux2,
    "examples.uniworld_style:UniWorldStyle": build_tiny_uniworld,
}
OPTIONS = LoadOptions(guidance=2.5, device=torch.device("cpu"))
TEXTS = ["make the circle red", "remove the square"]
LONG = "make the square and the circle red and remove the red circle"
"""A negative prompt longer than the instructions."""
SIZE = (96, 64)
SOURCES = [(Image.new("RGB", SIZE, color),) for color in ("red", "navy")]


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def family_path(request, tmp_path_factory):
    return request.param, BUILDERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def family(family_path):
    name, path = family_path
    return family_class(name).load(str(path), OPTIONS)


def noise(family, *seeds):
    return family.initial_noise([torch.Generator().manual_seed(seed) for seed in seeds], SIZE)


def test_every_family_is_here_and_its_entry_says_what_its_class_says():
    assert set(FAMILIES) <= set(BUILDERS)
    assert all(entry.max_sources == family_class(name).max_sources for name, entry in FAMILIES.items())


def test_a_pipeline_of_diffusers_tells_its_family(family_path):
    name, path = family_path
    if name in FAMILIES:
        assert family_of_pipeline(DiffusionPipeline.load_config(path)["_class_name"]) == name
    assert family_of_pipeline("SomebodyElsesPipeline") is None


def test_all_weights_are_frozen(family):
    assert not any(parameter.requires_grad for parameter in family.transformer.parameters())


def test_lora_targets_are_modules_of_the_transformer(family):
    names = [name for name, _ in family.transformer.named_modules()]
    assert all(any(name.endswith(target) for name in names) for target in family.lora_targets)


def test_sigmas_fall_from_one_to_zero(family):
    sigmas = family.sigmas(6, SIZE)
    assert sigmas.dtype == torch.float64
    assert (sigmas[0], sigmas[-1], len(sigmas)) == (1.0, 0.0, 7)
    assert (sigmas.diff() < 0).all()


def test_noise_of_a_row_depends_on_its_generator_only(family):
    together, alone = noise(family, 1, 2), noise(family, 2)
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])


def test_a_row_is_the_same_in_any_batch(family):
    both, second = family.encode(TEXTS, SOURCES), family.encode(TEXTS[1:], SOURCES[1:])
    t = torch.tensor([0.3, 0.7])
    batched = family.velocity(noise(family, 1, 2), t, both)
    alone = family.velocity(noise(family, 2), t[1:], second)
    torch.testing.assert_close(batched[1], alone[0], atol=1e-5, rtol=0)
    selected = family.velocity(noise(family, 2), t[1:], both.select(torch.tensor([1])))
    torch.testing.assert_close(selected, alone, atol=1e-5, rtol=0)


def test_velocity_depends_on_instruction_source_and_time(family):
    x = noise(family, 1)

    def velocity(text, source, t):
        return family.velocity(x, torch.tensor([t]), family.encode([text], [source]))

    base = velocity(TEXTS[0], SOURCES[0], 0.5)
    assert base.shape == x.shape
    assert base.dtype == torch.float32
    for changed in ((TEXTS[1], SOURCES[0], 0.5), (TEXTS[0], SOURCES[1], 0.5), (TEXTS[0], SOURCES[0], 0.6)):
        assert not torch.allclose(velocity(*changed), base, atol=1e-5)


def test_decoded_images_have_the_size_that_was_asked_for(family):
    images = family.decode(noise(family, 1, 2), SIZE)
    assert [image.size for image in images] == [SIZE] * 2
    assert all(image.mode == "RGB" for image in images)


def test_the_vae_gets_no_more_pixels_at_once_than_allowed_and_makes_the_same(family, monkeypatch):
    texts, sources, x0 = TEXTS * 2 + TEXTS[:1], [*SOURCES * 2, SOURCES[0]], noise(family, *range(5))
    whole = family.encode(texts, sources), [np.asarray(image, int) for image in family.decode(x0, SIZE)]
    at_once = []

    def counting(method):
        def counted(x, **options):
            at_once.append(len(x))
            return method(x, **options)

        return counted

    for name in ("encode", "decode"):
        monkeypatch.setattr(family.vae, name, counting(getattr(family.vae, name)))
    for images, allowed in ((2, 2), (0.5, 1), (100, 5)):
        monkeypatch.setattr(family, "vae_pixels", int(images * SIZE[0] * SIZE[1]))
        for name, value in family.encode(texts, sources).batched.items():
            torch.testing.assert_close(value, whole[0].batched[name], atol=1e-4, rtol=1e-4)
        for part, image in zip(family.decode(x0, SIZE), whole[1], strict=True):
            assert np.abs(np.asarray(part, int) - image).max() <= 1
        assert max(at_once) == allowed
        at_once.clear()


def test_concatenated_conditioning_holds_all_rows(family):
    parts = [family.encode([text], [source]) for text, source in zip(TEXTS, SOURCES, strict=True)]
    joined = Conditioning.concatenate(parts)
    for name, value in family.encode(TEXTS, SOURCES).batched.items():
        torch.testing.assert_close(joined.batched[name], value, atol=1e-4, rtol=1e-4)


def test_a_path_that_holds_no_pipeline_is_a_clear_error(family, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.path = .* is not a"):
        type(family).load(str(tmp_path), OPTIONS)


def edit(family, true_cfg=None):
    """(Clean latents, image)."""
    decoded = []

    def decode(x0, size):
        decoded.append(x0)
        return type(family).decode(family, x0, size)

    draw = torch.Generator().manual_seed(7)
    with patch.object(family, "decode", decode):
        (edited,) = edit_by_euler(family, TEXTS[:1], SOURCES[:1], [draw], num_steps=5, true_cfg=true_cfg)
    return decoded[0], np.asarray(edited, int)


def textured(*size):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("negative_prompt", [None, "", LONG])
def test_it_edits_as_plain_diffusers_does(family_path, family, monkeypatch, negative_prompt):
    name, path = family_path
    if name not in FAMILIES:
        return  # not in diffusers
    true_cfg = None
    if negative_prompt is not None:
        true_cfg = TrueCfg(4.0, negative_prompt or family.negative_branch.prompt)
    width, height = SIZE
    arguments = {"flux_kontext": {"max_area": width * height, "_auto_resize": False, "guidance_scale": 2.5}}.get(
        name, {}
    )
    if name == "flux_kontext":
        arguments["max_sequence_length"] = MAX_TEXT_TOKENS
    if name.startswith("qwen"):
        # Its sources are always encoded at about 1024x1024 pixels, ours at the run's size.
        module = importlib.import_module(type(family).pipeline_class.__module__)
        monkeypatch.setattr(module, "VAE_IMAGE_SIZE", width * height, raising=False)
        dimensions = module.calculate_dimensions

        def at_our_size(area, ratio):
            return (
                (width, height, None)[: len(dimensions(area, ratio))] if area != 384 * 384 else dimensions(area, ratio)
            )

        monkeypatch.setattr(module, "calculate_dimensions", at_our_size)
    pipeline = DiffusionPipeline.from_pretrained(path)
    pipeline.set_progress_bar_config(disable=True)
    if true_cfg is not None:
        arguments |= theirs_with(true_cfg, name, pipeline)
    latents = []

    def note(_, step, time, tensors):
        latents.append(tensors["latents"])
        return {}

    theirs = pipeline(
        image=SOURCES[0][0],
        prompt=TEXTS[0],
        height=height,
        width=width,
        num_inference_steps=5,
        generator=torch.Generator().manual_seed(7),
        callback_on_step_end=note,
        **arguments,
    ).images[0]
    x0, edited = edit(family, true_cfg)
    assert np.abs(edited - np.asarray(theirs, int)).max() <= 1
    # Guidance hardly shows in images by random weights, but it does in latents.
    torch.testing.assert_close(x0, latents[-1], atol=1e-5, rtol=0)
    if true_cfg is not None:
        assert (edit(family)[0] - x0).abs().max() > 1e-3


def theirs_with(true_cfg, name, pipeline):
    """The pipeline's arguments for true classifier-free guidance."""
    if name != "flux2_klein":
        return {"true_cfg_scale": true_cfg.scale, "negative_prompt": true_cfg.negative_prompt}
    pipeline.register_to_config(is_distilled=False)
    embedded, _ = pipeline.encode_prompt(true_cfg.negative_prompt, max_sequence_length=512)
    return {"guidance_scale": true_cfg.scale, "negative_prompt_embeds": embedded}


@torch.no_grad()
def test_both_branches_are_one_forward_pass(family, monkeypatch):
    if family.negative_branch is None:
        return
    num_rows, velocity = [], family.velocity

    def counted(x_t, t, conditioning):
        num_rows.append(len(x_t))
        return velocity(x_t, t, conditioning)

    monkeypatch.setattr(family, "velocity", counted)
    x, t, conditioning = noise(family, 1, 2, 3), torch.tensor([0.3, 0.7, 0.7]), family.encode(TEXTS, SOURCES)
    rows = torch.tensor([0, 1, 1])

    def guided(negative_prompt):
        return sampling_velocity(family, conditioning, SOURCES, TrueCfg(4.0, negative_prompt), rows=rows)(x, t)

    plain = sampling_velocity(family, conditioning, SOURCES, None, rows=rows)(x, t)
    against_the_first = guided(TEXTS[0])
    # Guided away from its own instruction, a row is as it was; the others are not.
    torch.testing.assert_close(against_the_first[0], plain[0], atol=1e-5, rtol=0)
    assert not torch.allclose(against_the_first[1:], plain[1:], atol=1e-3)
    assert num_rows == [3, 6]


def test_a_distilled_checkpoint_has_no_negative_branch(family_path, tmp_path):
    name, path = family_path
    known = family_class(name)
    if known.negative_branch is None:
        assert known.why_no_negative_branch(str(path)) == "it has no negative branch"
    elif name != "flux2_klein":
        assert known.why_no_negative_branch(str(path)) is None
    else:
        assert "is distilled" in (known.why_no_negative_branch(str(path)) or "")
        (tmp_path / "model_index.json").write_text('{"_class_name": "Flux2KleinPipeline", "is_distilled": false}')
        assert known.why_no_negative_branch(str(tmp_path)) is None
        with pytest.raises(ConfigError, match=r"model\.path = .* is not a Flux2KleinPipeline"):
            known.why_no_negative_branch(str(tmp_path / "nowhere"))


def test_sources_are_as_many_as_the_family_takes(family_path, family):
    limit = max_sources(family_path[0])
    x, t = noise(family, 1), torch.tensor([0.5])
    if limit > 1:
        # Each source matters, and so does its position.
        pair = (SOURCES[0][0], textured(32, 64))
        one, two, swapped = (
            family.velocity(x, t, family.encode(TEXTS[:1], [images]))
            for images in ((pair[0],), pair, (pair[0], SOURCES[1][0]))
        )
        assert not torch.allclose(one, two, atol=1e-5)
        assert not torch.allclose(two, swapped, atol=1e-5)
    for number in (0, limit + 1):
        with pytest.raises(DataError, match=f"has {number} source images; {type(family).__name__} takes 1 to {limit}"):
            family.encode(TEXTS[:1], [SOURCES[0] * number])


def test_an_instruction_that_is_cut_off_is_known(family_path, family):
    assert family.num_cut_tokens(TEXTS[0]) == 0
    long = "make the circle red " * 500
    if family.num_cut_tokens(long) == 0:  # reads it whole, and the end matters
        x, t = noise(family, 1), torch.tensor([0.5])
        ends = [family.velocity(x, t, family.encode([long[:400] + end], SOURCES[:1])) for end in ("red", "blue")]
        assert not torch.allclose(ends[0], ends[1], atol=1e-6)
    else:
        assert family.num_cut_tokens(long) > 1000


def test_sizes_that_have_no_latents_are_refused(family):
    with pytest.raises(ConfigError, match=f"36x32: both must be multiples of {family.size_multiple}"):
        family.check_size((36, 32))
