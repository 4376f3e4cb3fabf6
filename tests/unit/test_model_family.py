"""The contract that every model family keeps; run over all of them."""

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline
from PIL import Image

from shared.errors import ConfigError, DataError
from tests.support.tiny_editor import build_tiny_editor
from trainer.models import FAMILIES, family_class
from trainer.models.base import Conditioning, LoadOptions
from trainer.rollout import velocity_given
from trainer.solvers import euler

BUILDERS = {"flux_kontext": build_tiny_editor}
OPTIONS = LoadOptions(width=32, height=32, guidance=2.5, device=torch.device("cpu"))
TEXTS = ["make the circle red", "remove the square"]
SOURCES = [(Image.new("RGB", (32, 32), color),) for color in ("red", "navy")]


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request, tmp_path_factory):
    path = BUILDERS[request.param](tmp_path_factory.mktemp(request.param))
    return family_class(request.param).load(str(path), OPTIONS)


def noise(family, *seeds):
    return family.initial_noise([torch.Generator().manual_seed(seed) for seed in seeds])


def test_all_weights_are_frozen(family):
    assert not any(parameter.requires_grad for parameter in family.transformer.parameters())


def test_lora_targets_are_modules_of_the_transformer(family):
    names = [name for name, _ in family.transformer.named_modules()]
    assert all(any(name.endswith(target) for name in names) for target in family.lora_targets)


def test_sigmas_fall_from_one_to_zero(family):
    sigmas = family.sigmas(6)
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


def test_decoded_images_have_the_size_of_the_run(family):
    images = family.decode(noise(family, 1, 2))
    assert [image.size for image in images] == [(32, 32)] * 2
    assert all(image.mode == "RGB" for image in images)


def test_concatenated_conditioning_holds_all_rows(family):
    parts = [family.encode([text], [source]) for text, source in zip(TEXTS, SOURCES, strict=True)]
    joined = Conditioning.concatenate(parts)
    for name, value in family.encode(TEXTS, SOURCES).batched.items():
        torch.testing.assert_close(joined.batched[name], value, atol=1e-4, rtol=0)


def test_a_path_that_holds_no_pipeline_is_a_clear_error(family, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.path = .* is not a"):
        type(family).load(str(tmp_path), OPTIONS)


def test_flux_kontext_edits_as_plain_diffusers_does(tmp_path):
    path = build_tiny_editor(tmp_path)
    family = family_class("flux_kontext").load(str(path), OPTIONS)
    conditioning = family.encode(TEXTS[:1], SOURCES[:1])
    with torch.no_grad():
        x0 = euler(velocity_given(family, conditioning), noise(family, 7), family.sigmas(5))
    (ours,) = family.decode(x0)

    pipeline = FluxKontextPipeline.from_pretrained(path)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        image=SOURCES[0][0],
        prompt=TEXTS[0],
        height=32,
        width=32,
        max_area=32 * 32,
        _auto_resize=False,
        num_inference_steps=5,
        guidance_scale=2.5,
        max_sequence_length=12,
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1


def test_flux_kontext_refuses_two_sources_and_sizes_that_do_not_fit(tmp_path):
    path = build_tiny_editor(tmp_path)
    cls = family_class("flux_kontext")
    with pytest.raises(DataError, match="exactly one source image"):
        cls.load(str(path), OPTIONS).encode(["x"], [SOURCES[0] * 2])
    odd = LoadOptions(width=36, height=32, guidance=2.5, device=torch.device("cpu"))
    with pytest.raises(ConfigError, match="36x32: both must be multiples of 8"):
        cls.load(str(path), odd)
