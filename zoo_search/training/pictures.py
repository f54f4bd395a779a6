"""Augmentation of a single picture, before it has the size of a network: timm's transforms."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoo_search.core.identity import seeded
from zoo_search.core.imports import import_timm

if TYPE_CHECKING:
    from PIL.Image import Image

    from zoo_search.data.preprocess import Preprocess


@dataclass(frozen=True)
class PictureAugment:
    """Random crop, flip, RandAugment and random erasing, as timm trains with.

    Attributes:
        transform: Of the network: size, interpolation, mean and standard deviation.
        flip: Probability of a horizontal flip.
        erase: Probability that a rectangle is filled with noise.
    """

    transform: Preprocess
    flip: float = 0.5
    erase: float = 0.0

    def __call__(self, picture: Image, draw: str) -> npt.NDArray[np.uint8]:
        """Return uint8 ``[3, H, W]``; ``draw`` names the random numbers, alike in every process."""
        with seeded(draw):
            pixels = torch.as_tensor(self._one(picture))
            if self._erasing is not None:
                pixels = self._erased(pixels)
            return pixels.numpy()

    @functools.cached_property
    def _one(self) -> Callable[[Image], Any]:
        import_timm()
        from timm.data.transforms_factory import create_transform

        known = self.transform.interpolation in ("bilinear", "bicubic")
        made: Callable[[Image], Any] = create_transform(
            (3, *self.transform.size),
            is_training=True,
            use_prefetcher=True,  # ends with pixels; they are normalised on the device
            hflip=self.flip,
            color_jitter=0.0,
            # mmax9: a magnitude of 10 would posterize to no bits at all, which Pillow refuses.
            auto_augment="rand-m9-mmax9-mstd0.5-inc1",
            interpolation=self.transform.interpolation if known else "bicubic",
            mean=self.transform.mean,
            std=self.transform.std,
        )
        return made

    @functools.cached_property
    def _erasing(self) -> Any:
        if not self.erase:
            return None
        from timm.data.random_erasing import RandomErasing

        return RandomErasing(self.erase, mode="pixel", device="cpu")  # type: ignore[no-untyped-call]

    def _erased(self, pixels: Tensor) -> Tensor:
        """Erase as timm does, where values have mean 0 and deviation 1, and go back to pixels."""
        mean = torch.tensor(self.transform.mean).view(3, 1, 1)
        std = torch.tensor(self.transform.std).view(3, 1, 1)
        erased: Tensor = self._erasing(self.transform.normalize(pixels[None])[0])
        return (erased * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8)
