"""Bytes <-> RGB images: the only module that deals with codecs.

Decodes untrusted bytes to an upright RGB `PIL.Image`, or raises an `ImageError` that says what is wrong with them.
Images are sent losslessly, as WebP or raw, because a lossy codec between editor and judge changes the reward. Raw is a
binary PPM: ten times the bytes for a tenth of the time (BENCHMARKS.md), for a trainer with a fast link to its judge.
"""

from __future__ import annotations

import base64
import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import IO, Literal

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from edit_r1.shared.errors import ImageError

ACCEPTED_FORMATS = ("PNG", "JPEG", "WEBP")
Codec = Literal["webp", "raw"]
_RAW_MAGIC = b"P6"
_MIME_OF_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"RIFF": "image/webp",
    _RAW_MAGIC: "image/x-portable-pixmap",
}
_REFUSED_MAGIC = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"%PDF": "PDF",
    b"8BPS": "PSD",
    b"\x00\x00\x01\x00": "ICO",
}
_WEBP_MAX_SIDE = 16_383
_TURNED = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap width and height."""


@dataclass(frozen=True)
class ImageLimits:
    """Limits that `decode` enforces."""

    max_bytes: int = 32 * 2**20
    """Encoded size, in bytes."""
    max_pixels: int = 4096 * 4096
    """Width times height; checked from the header, before any pixel is decoded."""
    max_side_ratio: float = 100.0
    """Longer side over shorter side; vision encoders reject extremely narrow images."""


DEFAULT_LIMITS = ImageLimits()

# One limit for every caller, checked below from the header; Pillow's own check would only add a warning.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def encode(image: Image.Image, codec: Codec = "webp") -> bytes:
    """Lossless bytes of an RGB image: WebP at its fastest, or raw. Raises ImageError for WebP sides over 16,383."""
    if codec == "raw":
        return b"%s %d %d 255\n%s" % (_RAW_MAGIC, *image.size, _to_rgb(image).tobytes())
    if max(image.size) > _WEBP_MAX_SIDE:
        raise ImageError("image_too_large", f"image is {_size(image)}; sides may be at most {_WEBP_MAX_SIDE} pixels")
    buffer = io.BytesIO()
    # With lossless=True, `quality` sets the compression effort.
    _to_rgb(image).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()


def encode_png(image: Image.Image) -> bytes:
    """PNG bytes of an RGB image: lossless, for files and third-party servers."""
    buffer = io.BytesIO()
    _to_rgb(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> Image.Image:
    """An upright RGB image from PNG, JPEG, WebP or binary PPM bytes; transparent areas are composited on white.

    Raises:
        ImageError: `image_too_large`, `unsupported_image_type` or `invalid_image`.

    """
    if len(data) > limits.max_bytes:
        raise ImageError("image_too_large", f"image has {len(data):,} bytes; the limit is {limits.max_bytes:,}")
    try:
        # Of the formats Pillow calls PPM, accept only binary RGB.
        formats = ("PPM",) if data.startswith(_RAW_MAGIC) else ACCEPTED_FORMATS
        with Image.open(io.BytesIO(data), formats=formats) as image:
            _check_size(image, limits)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # otherwise it copies even upright images
            return _to_rgb(image)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        reason = str(error).partition(" exceeds")[0]
        raise ImageError("image_too_large", f"{reason}; the limit is {limits.max_pixels:,} pixels") from error
    except Exception as error:
        # Decoders fail in many ways on hostile bytes (OSError, struct.error, zlib.error, ...): all mean unreadable.
        raise _unreadable(data, error) from error


def upright_size(file: IO[bytes]) -> tuple[int, int]:
    """(width, height) of the image that `decode` would return for an open file, read from its header alone.

    Raises ImageError if it is not an accepted image.
    """
    try:
        with Image.open(file, formats=ACCEPTED_FORMATS) as image:
            width, height = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation) in _TURNED
    except (OSError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise ImageError("invalid_image", f"not a readable image: {error}") from error
    return (height, width) if turned else (width, height)


def content_hash(data: bytes) -> str:
    """A short hash of encoded bytes, the same on every machine."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def mime_type(data: bytes) -> str:
    """The media type of encoded bytes, by their magic number; `application/octet-stream` if unknown."""
    found = (mime for magic, mime in _MIME_OF_MAGIC.items() if data.startswith(magic))
    return next(found, "application/octet-stream")


def data_url(data: bytes) -> str:
    """Encoded bytes as a base64 `data:` URL, for chat endpoints and HTML pages."""
    return f"data:{mime_type(data)};base64,{base64.b64encode(data).decode()}"


def _check_size(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageError(
            "image_too_large",
            f"image is {_size(image)} = {width * height:,} pixels; the limit is {limits.max_pixels:,}",
        )
    if max(width, height) > limits.max_side_ratio * min(width, height):
        raise ImageError(
            "image_too_large",
            f"image is {_size(image)}; the longer side may be at most {limits.max_side_ratio:g} times the shorter",
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16-bit grey: `convert` would clip instead of scaling
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _unreadable(data: bytes, error: Exception) -> ImageError:
    refused = next((name for magic, name in _REFUSED_MAGIC.items() if data.startswith(magic)), None)
    if refused:
        return ImageError("unsupported_image_type", f"{refused} is not accepted; send PNG, JPEG or WebP")
    if mime_type(data) == "application/octet-stream":
        return ImageError("invalid_image", f"not a readable image: {len(data):,} bytes, not PNG, JPEG or WebP")
    reason = "damaged header" if isinstance(error, UnidentifiedImageError) else error
    return ImageError("invalid_image", f"not a readable image: {reason}")


def _size(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"
