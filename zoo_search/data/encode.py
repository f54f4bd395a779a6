"""From stored bytes or arrays to the bytes of an image file, as they are wherever that goes."""

from __future__ import annotations

import io

from PIL import Image

from zoo_search.data.decode import MAX_PIXELS, Range, Raw, formats, shrink, to_rgb

QUALITY = 95
"""Of JPEG files."""

_ENDINGS = {
    "JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "PPM": "ppm", "GIF": "gif",
    "BMP": "bmp", "TIFF": "tif", "JPEG2000": "jp2", "AVIF": "avif", "TGA": "tga",
}  # fmt: skip
"""Endings by PIL's names of the formats that are read."""


def encoded(
    raw: Raw,
    side: int | None = None,
    max_pixels: int = MAX_PIXELS,
    value_range: Range | None = None,
) -> tuple[bytes, str]:
    """Return an image as the bytes of a file, and their ending, without the dot.

    Bytes stay as they are; arrays and PIL images become PNG, of the pixels that
    :func:`zoo_search.data.decode.to_rgb` gives. An image whose shorter side has more than ``side``
    pixels is resized so that it has as many, and becomes PNG if it was one or had no format, else
    JPEG.

    Raises:
        DecodeError: If it cannot be decoded, or has more pixels than ``max_pixels``.
    """
    image = to_rgb(raw, max_pixels, value_range)
    ending = _ending(raw) if isinstance(raw, bytes) else None
    small = image if side is None else shrink(image, side)
    if isinstance(raw, bytes) and small is image and ending is not None:
        return raw, ending
    buffer = io.BytesIO()
    if isinstance(raw, bytes) and small is not image and ending not in (None, "png"):
        small.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue(), "jpg"
    red, green, blue = small.split()
    # One channel where all are equal: it is decoded to the same pixels.
    (red if red == green == blue else small).save(buffer, "PNG")
    return buffer.getvalue(), "png"


def _ending(data: bytes) -> str:
    """Return the ending of a file's bytes by their format."""
    with Image.open(io.BytesIO(data), formats=formats()) as image:
        return _ENDINGS[str(image.format)]
