"""What is done to the images of a step on the device, and what targets they get."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_search.core.imports import import_timm
from zoo_search.training.order import Ints
from zoo_search.training.schedules import Protocol, Schedule

if TYPE_CHECKING:
    from zoo_search.data.preprocess import Preprocess

_TURN, _SHIFT, _ZOOM, _TONE = 10.0, 0.08, 0.1, 0.2

Mixer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Augmentation:
    """From decoded images to normalised images and target probabilities.

    It draws from the global random states of ``torch`` and ``numpy`` (timm's Mixup leaves no
    choice): seed them first, alike on all workers of a step. RandAugment and random erasing are
    done before, image by image, where the images are decoded.
    """

    def __init__(
        self, num_classes: int, transform: Preprocess, schedule: Schedule, protocol: Protocol
    ) -> None:
        self._classes, self._transform, self._schedule = num_classes, transform, schedule
        self._light = schedule.augmentation(protocol) == "light"
        self._mix = _mixer(num_classes, schedule)

    @property
    def pairs(self) -> bool:
        """Whether steps have to be of an even number of images, which are mixed in pairs."""
        return self._mix is not None

    def __call__(
        self, images: Tensor, labels: Tensor, places: Ints, of: int
    ) -> tuple[Tensor, Tensor]:
        """Return normalised images ``[B, 3, H, W]`` and target probabilities ``[B, classes]``.

        ``images`` (uint8 ``[B, 3, H, W]``; features of floats are left as they are) and ``labels``
        (int64 ``[B]``) are those at ``places`` of a step ``of`` so many.
        """
        if images.dtype == torch.uint8:
            if self._light:
                images = light(images, self._schedule.flip, places, of)
            images = self._transform.normalize(images)
        if self._mix is not None:
            return self._mix(images, labels)
        smoothing = self._schedule.label_smoothing
        hot = F.one_hot(labels, self._classes).float()
        return images, hot * (1 - smoothing) + smoothing / self._classes


def light(images: Tensor, flip: float = 0.0, places: Ints | None = None, of: int = 0) -> Tensor:
    """Turn, shift, zoom and re-tone each image (uint8 ``[B, 3, H, W]``) a little.

    The border is repeated outwards. ``flip`` is the probability of a horizontal flip. Where the
    images are those at ``places`` of a step ``of`` so many, numbers are drawn for the whole step,
    so that each image gets the same on any number of workers.
    """
    count, device = of or len(images), images.device
    mine = slice(None) if places is None else torch.from_numpy(places)

    def uniform(limit: float) -> Tensor:
        return ((torch.rand(count) * 2 - 1) * limit)[mine].to(device)

    turn, zoom = uniform(math.radians(_TURN)), 1 + uniform(_ZOOM)
    mirror = torch.where(torch.rand(count)[mine].to(device) < flip, -1.0, 1.0)
    theta = torch.stack(
        [
            torch.stack([zoom * turn.cos() * mirror, -zoom * turn.sin(), 2 * uniform(_SHIFT)], 1),
            torch.stack([zoom * turn.sin() * mirror, zoom * turn.cos(), 2 * uniform(_SHIFT)], 1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    x = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    middle = x.mean(dim=(1, 2, 3), keepdim=True)
    contrast = 1 + uniform(_TONE).view(-1, 1, 1, 1)
    brightness = 1 + uniform(_TONE).view(-1, 1, 1, 1)
    x = ((x - middle) * contrast + middle) * brightness
    return x.round().clamp(0, 255).to(torch.uint8)


def _mixer(num_classes: int, schedule: Schedule) -> Mixer | None:
    """Return timm's Mixup and CutMix, or None where both are off."""
    if not (schedule.mixup or schedule.cutmix):
        return None
    import_timm()
    from timm.data.mixup import Mixup

    mixer: Mixer = Mixup(  # type: ignore[no-untyped-call]
        mixup_alpha=schedule.mixup,
        cutmix_alpha=schedule.cutmix,
        label_smoothing=schedule.label_smoothing,
        num_classes=num_classes,
    )
    return mixer
