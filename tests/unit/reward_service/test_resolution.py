"""Images are shown to the judge within the bounds that were set, in their shape, and never as 16,000 tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPImageProcessor, Glm4vImageProcessor, Qwen2VLImageProcessor

from edit_r1.reward_service.engines.resolution import DEFAULT_MAX_PIXELS, choose_resolution
from edit_r1.shared.errors import ConfigError

SIDES = st.integers(1, 400)


@given(SIDES, SIDES, st.none() | st.integers(1, 50_000), st.none() | st.integers(50_000, 200_000))
def test_images_of_other_families_are_scaled_into_the_bounds(width, height, lowest, highest):
    resolution = choose_resolution(CLIPImageProcessor(), lowest, highest)
    assert resolution.size is None
    scaled = resolution.scaled(Image.new("RGB", (width, height)))
    if lowest is not None and width * height < lowest:
        assert scaled.width * scaled.height >= lowest
    elif width * height <= (highest or DEFAULT_MAX_PIXELS):
        assert scaled.size == (width, height)
    else:
        # One pixel of a side is the most that rounding changes; a side is at least one pixel.
        assert scaled.width * scaled.height <= max(highest, scaled.width, scaled.height)
        assert abs(scaled.width / scaled.height - width / height) <= 2 * width / height / min(scaled.size)


@pytest.mark.parametrize(
    ("own", "given", "size"),
    [
        ((3_136, 12_845_056), (None, None), (3_136, DEFAULT_MAX_PIXELS)),  # Qwen2.5-VL as published
        ((1_024, 1_024), (None, None), (1_024, 1_024)),
        ((3_136, 12_845_056), (None, 4_000_000), (3_136, 4_000_000)),
        ((3_136, 12_845_056), (200_000, None), (200_000, DEFAULT_MAX_PIXELS)),
        ((3_136, 12_845_056), (None, 2_000), (2_000, 2_000)),
    ],
)
def test_the_bounds_of_qwen_vl_are_replaced(own, given, size):
    processor = Qwen2VLImageProcessor(size={"shortest_edge": own[0], "longest_edge": own[1]})
    resolution = choose_resolution(processor, *given)
    assert resolution.size == {"shortest_edge": size[0], "longest_edge": size[1]}
    assert resolution.is_own == (own == size)


@pytest.mark.parametrize("processor", [CLIPImageProcessor(), Glm4vImageProcessor()])
def test_a_photograph_is_scaled_down_by_default(processor):
    scaled = choose_resolution(processor, None, None).scaled(Image.new("RGB", (3840, 2160)))
    assert 0.99 * DEFAULT_MAX_PIXELS < scaled.width * scaled.height <= DEFAULT_MAX_PIXELS


@pytest.mark.parametrize("processor", [CLIPImageProcessor(), Qwen2VLImageProcessor()])
def test_a_minimum_above_the_maximum_is_rejected(processor):
    with pytest.raises(ConfigError, match="min_judge_pixels: 9000 is above the maximum of 8000 pixels"):
        choose_resolution(processor, 9000, 8000)
