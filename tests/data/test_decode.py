"""Every kind of stored image becomes RGB, and the resize is timm's own."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval

from zoo_search.data.decode import DecodeError, decode, to_rgb
from zoo_search.data.view import View


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """A smooth colour picture with some texture."""
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(seed)
    waves = [np.sin(x / 7 + c) * np.cos(y / 5 - c) * 100 + 128 for c in range(3)]
    noisy = np.stack(waves, -1) + rng.normal(0, 10, (height, width, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.9])
@pytest.mark.parametrize("shape", [(61, 61), (50, 133), (140, 37), (300, 224)])
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (48, 32), (32, 56)])
def test_resize_is_timms_eval_transform(
    shape: tuple[int, int], size: tuple[int, int], crop_pct: float, interpolation: str
) -> None:
    image = picture(*shape)
    reference = transforms_imagenet_eval(
        size, crop_pct=crop_pct, interpolation=interpolation, normalize=False
    )(image)
    ours = torch.from_numpy(decode(encode(image), View(size, interpolation, crop_pct)))
    assert torch.equal(ours, torch.as_tensor(reference))


def solid(mode: str, colour: Any) -> Image.Image:
    return Image.new(mode, (5, 4), colour)


PALETTE = solid("RGB", (255, 0, 0)).quantize(4)
CLEAR_PALETTE = solid("P", 0)
CLEAR_PALETTE.putpalette([0, 0, 255] + [0] * 765)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (encode(solid("L", 77)), (77, 77, 77)),
        (encode(solid("1", 1)), (255, 255, 255)),
        (encode(solid("RGB", (1, 2, 3))), (1, 2, 3)),
        (encode(solid("RGBA", (200, 0, 0, 255))), (200, 0, 0)),
        (encode(solid("RGBA", (200, 0, 0, 0))), (255, 255, 255)),
        (encode(solid("RGBA", (0, 0, 0, 51))), (204, 204, 204)),
        (encode(solid("LA", (0, 102))), (153, 153, 153)),
        (encode(PALETTE), (255, 0, 0)),
        (encode(CLEAR_PALETTE), (0, 0, 255)),
        (encode(CLEAR_PALETTE, transparency=0), (255, 255, 255)),
        (encode(solid("CMYK", (0, 255, 255, 0)), "TIFF"), (255, 0, 0)),
        (encode(solid("I;16", 65535)), (255, 255, 255)),
        (encode(solid("I;16", 32896)), (128, 128, 128)),
        (encode(solid("I;16", 257), "TIFF"), (1, 1, 1)),
        (encode(solid("I", 65535), "TIFF"), (255, 255, 255)),
        (encode(solid("P", 0), "GIF"), (0, 0, 0)),
        (np.full((3, 3), 9, np.uint8), (9, 9, 9)),
        (np.full((3, 3, 1), 9, np.uint8), (9, 9, 9)),
        (np.full((3, 3, 3), 9, np.uint8), (9, 9, 9)),
        (np.zeros((3, 3, 4), np.uint8), (255, 255, 255)),
        (np.full((3, 3), 65535, np.uint16), (255, 255, 255)),
        (np.ones((3, 3), np.bool_), (255, 255, 255)),
        (solid("HSV", (0, 255, 255)), (255, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(raw: Any, expected: tuple[int, int, int]) -> None:
    pixels = decode(raw, View((6, 6)))
    assert pixels.shape == (3, 6, 6)
    assert pixels.dtype == np.uint8
    assert (pixels == np.asarray(expected, np.uint8)[:, None, None]).all()


def test_cmyk_jpeg() -> None:
    pixels = decode(
        encode(solid("CMYK", (0, 255, 255, 0)), "JPEG", quality=95), View((4, 4))
    ).astype(int)
    assert abs(pixels - np.asarray([255, 0, 0])[:, None, None]).max() < 25


def test_16_bit_grey_keeps_its_range() -> None:
    """PIL's own convert cuts at 255; here the whole ramp maps onto the whole ramp."""
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16)[None].repeat(256, 0)
    pixels = decode(encode(Image.fromarray(ramp)), View((256, 256)))
    assert np.array_equal(pixels[0, 0], np.arange(256))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16"])
def test_one_pixel(mode: str) -> None:
    pixels = decode(encode(Image.new(mode, (1, 1))), View((32, 32), crop_pct=0.875))
    assert pixels.shape == (3, 32, 32)


def test_long_strip_stays_small() -> None:
    pixels = decode(encode(Image.new("RGB", (30000, 1), (10, 20, 30))), View((64, 64)))
    assert (pixels == np.asarray([10, 20, 30])[:, None, None]).all()


def test_exif_orientation() -> None:
    image = picture(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = to_rgb(encode(image, exif=exif))
    assert turned.size == (20, 30)
    assert np.array_equal(np.asarray(turned), np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b"this is a text", "known format"),
        (encode(picture(40, 40))[:200], "(?i)truncated"),
        (encode(picture(40, 40), "JPEG")[:300], "(?i)truncated"),
        (encode(solid("F", 0.5), "TIFF"), "floating-point"),
        (np.zeros((3, 3), np.float32), "no image"),
        (np.zeros((3, 3, 2), np.uint8), "no image"),
        (np.zeros((0, 3), np.uint8), "no image"),
    ],
)
def test_what_is_no_image_says_why(raw: Any, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(raw, View((8, 8)))
