"""The measures that we ship, in a service without a judge."""

import asyncio
import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from torchvision.models import alexnet

from edit_r1.reward_service.measures import SHIPPED, packages
from edit_r1.reward_service.measures.preservation import Preservation
from edit_r1.reward_service.types import Brief, Edit, JudgeImage, Score
from edit_r1.shared.client import RewardClient
from edit_r1.shared.errors import ConfigError, MeasureError
from edit_r1.shared.schemas import CandidateError, CandidateScore, EditGroup
from tests.support.serving import encoded, reward_service

SIDE = 48
NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
SCENE = np.asarray(Image.fromarray(NOISE).resize((6, 6)).resize((SIDE, SIDE)))


@pytest.fixture(scope="module")
def lpips_weights(tmp_path_factory):
    """AlexNet's convolutions with random weights: what LPIPS does with them is not their concern."""
    path = tmp_path_factory.mktemp("lpips") / "alexnet.safetensors"
    torch.manual_seed(0)
    save_file({name: one for name, one in alexnet().state_dict().items() if name.startswith("features")}, path)
    return path


@pytest.fixture(scope="module")
def url(tmp_path_factory, lpips_weights):
    shipped = {"preservation": "preservation", "text_edit_ocr": "text_edit_ocr", "perceptual": "preservation"}
    options = {"perceptual": {"lpips_weights": str(lpips_weights)}}
    with reward_service(tmp_path_factory.mktemp("none"), engine="none", methods=shipped, method_options=options) as url:
        yield url


def damaged(rows: int) -> np.ndarray:
    """The scene with noise in its first rows."""
    picture = SCENE.copy()
    picture[:rows] = NOISE[:rows]
    return picture


def score(url: str, method: str, *candidates: np.ndarray | Image.Image, **options: object):
    def data(image):
        return encoded(image if isinstance(image, Image.Image) else Image.fromarray(image))

    async def ask():
        group = {"instruction": "x", "sources": (data(SCENE),), "candidates": tuple(map(data, candidates))}
        async with RewardClient(url) as client:
            return await client.score(EditGroup.model_validate(group | {"method": method} | options))

    return asyncio.run(ask()).results


def values(results):
    assert all(isinstance(one, CandidateScore) for one in results), results
    return [one.score for one in results]


@pytest.mark.parametrize("method", ["preservation", "perceptual"])
def test_the_more_damage_outside_the_mask_the_lower_and_inside_it_has_no_effect(url, method):
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (0, 0, SIDE, 16))
    found = score(url, method, *map(damaged, (0, 8, 16, 20, 32, 48)), mask=encoded(mask))
    assert values(found)[:3] == [1, 1, 1]
    assert all(more > less for more, less in pairwise(values(found)[2:]))
    assert found[0].details["masked"]
    assert set(found[0].details["parts"]) == ({"ssim", "lpips"} if method == "perceptual" else {"ssim"})


def test_without_a_mask_an_edit_of_a_part_costs_nothing_and_a_redrawn_picture_does(url):
    same, part, most, all_new = values(score(url, "preservation", *map(damaged, (0, 16, 40, 48))))
    assert same == part == 1
    assert 1 > most > all_new
    everything = Image.new("L", (SIDE, SIDE), 255)
    (refused,) = score(url, "preservation", SCENE, mask=encoded(everything))
    assert isinstance(refused, CandidateError)
    assert refused.error.message.endswith("the mask lets the whole picture change, so nothing should stay")


def test_another_resolution_is_compared_and_another_shape_is_an_error(url):
    larger, wide = Image.fromarray(SCENE).resize((96, 96)), Image.fromarray(SCENE).resize((96, SIDE))
    near, refused = score(url, "preservation", larger, wide)
    assert near.score > 0.9
    assert refused.error.message == "candidate 1: preservation: the picture is 96x48, its source 48x48"


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(1, 60))
def test_more_noise_is_never_preserved_better(seed, less, more):
    noise = np.random.default_rng(seed).normal(size=SCENE.shape)
    found = []
    for strength in (0, less, less + more):
        picture = Image.fromarray(np.clip(SCENE + strength * noise, 0, 255).astype(np.uint8))
        edit = Edit(Brief("", "", "", (JudgeImage(Image.fromarray(SCENE), "a"),)), JudgeImage(picture, "b"))
        (result,) = Preservation(kept_share=1).score([edit])
        assert isinstance(result, Score)
        found.append(result.raw_score)
    assert found[0] == 1
    assert found[0] >= found[1] > found[2] - 1e-6


def sign(text: str) -> Image.Image:
    image = Image.new("RGB", (256, 96), "white")
    ImageDraw.Draw(image).text((10, 30), text, fill="black", font=ImageFont.load_default(32))
    return image


def test_the_text_that_was_asked_for_is_read(url):
    signs = list(map(sign, ("SOLD OUT", "SOLO OUT", "")))
    found = score(url, "text_edit_ocr", *signs, instruction='Change "SALE" to "SOLD OUT"')
    right, nearly, nothing = values(found)
    assert (right, nearly) == (1, pytest.approx(6 / 7))
    assert nothing == 0
    assert found[1].details["read_text"] == "SOLO OUT"
    (other,) = score(url, "text_edit_ocr", signs[0], expected_text="SOLD")
    assert other.score == pytest.approx(4 / 7)


def test_an_instruction_without_a_text_is_an_error_and_no_zero(url):
    (result,) = score(url, "text_edit_ocr", sign("OPEN"), instruction="make it red")
    assert isinstance(result, CandidateError)
    assert result.error.code == "not_measurable"
    reason = "text_edit_ocr: the instruction has no text in quotation marks; send expected_text"
    assert result.error.message == f"candidate 0: {reason}"


def test_weights_that_are_not_alexnets_are_refused(tmp_path):
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "a.safetensors")
    torch.save({"features.0.weight": io.BytesIO()}, tmp_path / "a.pth")
    reasons = {"a.safetensors": r"has no features.0.bias", "a.pth": "cannot be read", "b.pth": "does not exist"}
    for name, reason in reasons.items():
        with pytest.raises(ConfigError, match=reason):
            Preservation(lpips_weights=str(tmp_path / name)).load()


def test_a_missing_package_is_named():
    with pytest.raises(ConfigError, match=r"No module named 'nowhere'; .*pip install 'edit-r1\[measures\]'"):
        packages.need("nowhere", "preservation")
    assert {"preservation", "text_edit_ocr"} <= set(SHIPPED)


@pytest.mark.parametrize("options", [{"kept_share": 0.0}, {"kept_share": 1.5}, {"max_pixels": 9}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Preservation(**options)


def test_a_tiny_picture_cannot_be_compared():
    tiny = JudgeImage(Image.new("RGB", (8, 8)), "a")
    (result,) = Preservation().score([Edit(Brief("", "", "", (tiny,)), tiny)])
    assert isinstance(result, MeasureError)
