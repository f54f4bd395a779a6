"""Bytes stay as they are unless they are large; arrays become PNG."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from zoo_search.data.decode import DecodeError
from zoo_search.data.encode import encoded


def picture(size: tuple[int, int], form: str, **options: object) -> bytes:
    noise = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, form, **options)
    return buffer.getvalue()


def test_what_is_large_is_shrunk_and_all_else_stays() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    for data, ending, size in (
        (picture((40, 30), "JPEG"), "jpg", (26, 20)),
        (picture((40, 30), "PNG"), "png", (26, 20)),
        (picture((30, 40), "WEBP"), "jpg", (20, 26)),
        (picture((40, 30), "JPEG", exif=turned), "jpg", (20, 26)),
    ):
        small, found = encoded(data, 20)
        with Image.open(io.BytesIO(small)) as image:
            assert (found, image.size) == (ending, size)
            assert image.format == {"jpg": "JPEG", "png": "PNG"}[ending]
        assert encoded(data, 30) == encoded(data) == (data, encoded(data)[1])
    assert encoded(picture((9, 9), "BMP"))[1] == "bmp"
    with pytest.raises(DecodeError, match="known format"):
        encoded(picture((16, 16), "ICO"))  # a format that no ending of an image promises


def test_arrays_become_png_of_the_same_pixels() -> None:
    rng = np.random.default_rng(0)
    for array in (
        rng.integers(0, 255, (5, 7, 3)).astype(np.uint8),
        rng.integers(0, 255, (5, 7)).astype(np.uint8),
        Image.fromarray(rng.integers(0, 255, (5, 7, 3)).astype(np.uint8)),
    ):
        data, ending = encoded(array)
        expected = np.asarray(array)
        expected = np.stack([expected] * 3, 2) if expected.ndim == 2 else expected
        assert ending == "png"
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(np.asarray(image.convert("RGB")), expected)
