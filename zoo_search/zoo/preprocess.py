"""What a model wants done to an image before it sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo_search.config import ZooEntry

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Preprocess", "preprocess_for"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocess:
    """Evaluation preprocessing: resize, centre crop, scale to [0, 1], normalise.

    Attributes:
        size: ``(H, W)`` of what the model sees, in pixels.
        mean: Mean of each of the channels R, G, B, in [0, 1].
        std: Standard deviation of each channel.
        interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"`` (with antialiasing).
        crop_pct: Share of the resized shorter side that the centre crop keeps.
    """

    size: tuple[int, int]
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    interpolation: str = "bicubic"
    crop_pct: float = 1.0

    def normalize(self, images: Tensor) -> Tensor:
        """Return float32 ``[B, 3, H, W]`` from uint8 images ``[B, 3, H, W]`` of the right size."""
        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1)
        return images.to(torch.float32).div(255).sub(mean).div(std)

    def image(self, image: Image) -> Tensor:
        """Return float32 ``[3, H, W]`` from a picture of any size and mode."""
        from zoo_search.data.decode import decode

        pixels = torch.from_numpy(decode(image, self.size, self.interpolation, self.crop_pct))
        return self.normalize(pixels.unsqueeze(0)).squeeze(0)


def preprocess_for(entry: ZooEntry, cfg: Mapping[str, Any], size: int) -> Preprocess:
    """Return the preprocessing of a zoo entry: what the entry says, else ``cfg``, else ImageNet's.

    Args:
        entry: The entry of the run file.
        cfg: timm's pretrained configuration of the weights, or ``{}``.
        size: Height and width in pixels.
    """
    interpolation = entry.interpolation or cfg.get("interpolation") or "bicubic"
    return Preprocess(
        size=(size, size),
        mean=_triple(entry.mean or cfg.get("mean") or IMAGENET_MEAN),
        std=_triple(entry.std or cfg.get("std") or IMAGENET_STD),
        interpolation=interpolation if interpolation in _INTERPOLATIONS else "bicubic",
        crop_pct=float(entry.crop_pct or cfg.get("crop_pct") or 1.0),
    )


_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


def _triple(values: Any) -> Triple:
    red, green, blue = (float(v) for v in values)
    return red, green, blue
