"""Bytes <-> images: encoding is lossless, and only images within the limits are decoded."""

import io
import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edit_r1.shared.errors import ImageError
from edit_r1.shared.images import ImageLimits, content_hash, decode, encode, mime_type
from tests.support.serving import encoded, picture, png_bomb


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from(["webp", "raw"]))
def test_encoding_is_lossless(width, height, seed, codec):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(decode(encode(Image.fromarray(pixels), codec))), pixels)


@pytest.mark.parametrize("header", [b"P3\n1 1\n255\n1 2 3\n", b"P5 1 1 255\n\x07", b"P6 2 2 255\n\x00", b"P6 1"])
def test_of_raw_formats_only_whole_binary_rgb_is_taken(header):
    with pytest.raises(ImageError) as caught:
        decode(header)
    assert caught.value.code == "invalid_image"


def test_a_raw_bomb_is_refused_from_its_header():
    with pytest.raises(ImageError) as caught:
        decode(b"P6 30000 30000 255\n\x00")
    assert caught.value.code == "image_too_large"


@pytest.mark.parametrize("codec", ["PNG", "JPEG", "WEBP"])
def test_accepted_types_become_rgb(codec):
    data = encoded(picture(0), codec)
    assert decode(data).mode == "RGB"
    assert mime_type(data) == f"image/{codec.lower()}"


def test_transparency_is_laid_on_white():
    assert decode(encoded(Image.new("RGBA", (2, 2), (200, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)
    assert decode(encoded(Image.new("LA", (2, 2), (10, 255)))).getpixel((0, 0)) == (10, 10, 10)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    assert decode(encoded(Image.new("I;16", (2, 2), 128 * 256))).getpixel((0, 0)) == (128, 128, 128)


def test_exif_orientation_is_applied():
    image, buffer = Image.new("RGB", (4, 2)), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6  # rotated by 90 degrees
    image.save(buffer, "JPEG", exif=exif)
    assert decode(buffer.getvalue()).size == (2, 4)


def test_a_bomb_is_refused_from_its_header():
    bomb = png_bomb()
    started = time.perf_counter()
    with pytest.raises(ImageError, match="limit is 16,777,216 pixels") as caught:
        decode(bomb)
    assert caught.value.code == "image_too_large"
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "invalid_image"),
        (b"hello", "invalid_image"),
        (encoded(picture(0))[:60], "invalid_image"),
        (encode(picture(0, 128))[:50], "invalid_image"),
        (encoded(picture(0), "GIF"), "unsupported_image_type"),
        (encoded(picture(0), "BMP"), "unsupported_image_type"),
        (encoded(picture(0), "TIFF"), "unsupported_image_type"),
        (encoded(Image.new("RGB", (2000, 2))), "image_too_large"),
    ],
)
def test_other_bytes_are_refused_with_a_reason(data, code):
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.code == code


def test_limits_are_named_with_their_values():
    with pytest.raises(ImageError, match=r"32x32 = 1,024 pixels; the limit is 1,000"):
        decode(encoded(picture(0)), ImageLimits(max_pixels=1000))
    with pytest.raises(ImageError, match="the limit is 10"):
        decode(encoded(picture(0)), ImageLimits(max_bytes=10))


@given(st.binary(max_size=200), st.integers(0, 150), st.sampled_from(["PNG", "JPEG", "WEBP"]))
def test_damaged_bytes_are_an_image_or_an_image_error(noise, position, codec):
    data = bytearray(encoded(picture(1), codec))
    data[position : position + len(noise)] = noise
    with suppress(ImageError):
        assert decode(bytes(data)).mode == "RGB"


def test_content_hash_names_bytes():
    assert content_hash(b"a") == content_hash(b"a") != content_hash(b"b")
