"""Preprocessing is the one that timm evaluates with."""

from __future__ import annotations

import pytest
import skimage.data
import torch
from PIL import Image
from timm.data import create_transform

from zoo_search.config import ZooEntry
from zoo_search.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, preprocess_for
from zoo_search.zoo.build import pretrained_cfg_of


@pytest.mark.parametrize("photograph", ["chelsea", "astronaut"])
@pytest.mark.parametrize(
    ("size", "interpolation", "crop_pct"),
    [(224, "bicubic", 0.875), (64, "bilinear", 1.0), (160, "bicubic", 0.95), (96, "nearest", 0.9)],
)
def test_equals_timm(photograph: str, size: int, interpolation: str, crop_pct: float) -> None:
    image = Image.fromarray(getattr(skimage.data, photograph)())
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    ours = Preprocess((size, size), mean, std, interpolation, crop_pct)
    theirs = create_transform(
        (3, size, size), interpolation=interpolation, crop_pct=crop_pct, mean=mean, std=std
    )
    torch.testing.assert_close(ours.image(image), theirs(image), rtol=0, atol=1e-6)


def test_grey_and_transparent_pictures_become_rgb() -> None:
    transform = Preprocess((32, 32))
    for mode in ("L", "RGBA", "1", "P"):
        image = transform.image(Image.new(mode, (40, 50)))
        assert image.shape == (3, 32, 32)
        assert image.dtype == torch.float32


def test_where_the_numbers_come_from() -> None:
    entry = ZooEntry(arch="tf_efficientnet_lite0", mean=(0.1, 0.2, 0.3), crop_pct=0.5)
    of_entry = preprocess_for(224, dict(entry), pretrained_cfg_of(entry.arch))
    assert (of_entry.mean, of_entry.crop_pct) == ((0.1, 0.2, 0.3), 0.5)
    assert of_entry.std == (0.5, 0.5, 0.5)  # timm's own for this architecture
    plain = preprocess_for(32, dict(ZooEntry(arch="module:a:b")), {})
    assert (plain.mean, plain.std, plain.crop_pct) == (IMAGENET_MEAN, IMAGENET_STD, 1.0)
