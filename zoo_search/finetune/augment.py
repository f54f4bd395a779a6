"""Training batches: order, augmentation, normalisation and targets of one epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_search.finetune.recipes import TrainRecipe

__all__ = ["Transform", "batches", "light"]

_TURN, _SHIFT, _ZOOM, _TONE = 10.0, 0.08, 0.1, 0.2


class Transform(Protocol):
    """What a network wants done to its images (:class:`zoo_search.zoo.preprocess.Preprocess`)."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        ...

    @property
    def mean(self) -> tuple[float, float, float]:
        """Mean of each channel."""
        ...

    @property
    def std(self) -> tuple[float, float, float]:
        """Standard deviation of each channel."""
        ...

    @property
    def interpolation(self) -> str:
        """How images are resized."""
        ...

    def normalize(self, images: Tensor) -> Tensor:
        """Return float32 ``[B, 3, H, W]`` from uint8 ``[B, 3, H, W]``."""
        ...


def batches(
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    transform: Transform,
    recipe: TrainRecipe,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch as batches of nearly equal size, in random order.

    Draws from the global random states of ``torch``, ``numpy`` and ``random`` (timm's transforms
    leave no choice): seed them first.

    Args:
        images: uint8 ``[N, 3, H, W]``.
        labels: int64 ``[N]``.
        num_classes: Classes of the targets.
        transform: Normalisation of the network that is trained.
        recipe: Batch size and augmentation.

    Yields:
        Normalised images ``[B, 3, H, W]`` and target probabilities ``[B, num_classes]``.
    """
    augment = _augmentation(transform, recipe)
    mix = _mix(num_classes, recipe)
    for index in _split(torch.randperm(len(images)), recipe.batch_size, even=mix is not None):
        x, y = augment(images[index]), labels[index]
        if mix is not None:
            yield mix(x, y)
        else:
            yield x, _smooth(y, num_classes, recipe.label_smoothing)


def _split(order: Tensor, size: int, *, even: bool) -> list[Tensor]:
    """Split into batches of nearly ``size``; with ``even``, drop one image of each odd batch."""
    parts = list(torch.tensor_split(order, max(1, round(len(order) / size))))
    return [part[: len(part) // 2 * 2] for part in parts if len(part) > 1] if even else parts


def _smooth(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    hot = F.one_hot(labels, num_classes).to(torch.float32)
    return hot * (1 - smoothing) + smoothing / num_classes


def _augmentation(transform: Transform, recipe: TrainRecipe) -> Callable[[Tensor], Tensor]:
    if recipe.augment == "light":
        return lambda images: transform.normalize(light(images, recipe.flip))
    return _rand_augment(transform, recipe)


def light(images: Tensor, flip: float = 0.0) -> Tensor:
    """Turn, shift, zoom and re-tone each image a little; the border is repeated outwards.

    Args:
        images: uint8 ``[B, 3, H, W]``.
        flip: Probability of a horizontal flip.

    Returns:
        uint8 ``[B, 3, H, W]``.
    """
    count, device = len(images), images.device

    def uniform(limit: float) -> Tensor:
        return ((torch.rand(count) * 2 - 1) * limit).to(device)

    turn, zoom = uniform(math.radians(_TURN)), 1 + uniform(_ZOOM)
    mirror = torch.where(torch.rand(count).to(device) < flip, -1.0, 1.0)
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


def _rand_augment(transform: Transform, recipe: TrainRecipe) -> Callable[[Tensor], Tensor]:
    """Return timm's training transform: random crop, flip and RandAugment, image by image."""
    from timm.data.transforms_factory import create_transform
    from torchvision.transforms.functional import to_pil_image

    known = transform.interpolation in ("bilinear", "bicubic")
    one: Any = create_transform(
        (3, *transform.size),
        is_training=True,
        hflip=recipe.flip,
        color_jitter=0.0,
        # mmax9: a magnitude of 10 would posterize to no bits at all, which Pillow refuses.
        auto_augment="rand-m9-mmax9-mstd0.5-inc1",
        interpolation=transform.interpolation if known else "bicubic",
        mean=transform.mean,
        std=transform.std,
    )

    def augment(images: Tensor) -> Tensor:
        pictures = [one(to_pil_image(image)) for image in images.cpu()]
        return torch.stack(pictures).to(images.device)

    return augment


def _mix(
    num_classes: int, recipe: TrainRecipe
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Return timm's Mixup and CutMix, or None where both are off."""
    if not (recipe.mixup or recipe.cutmix):
        return None
    from timm.data.mixup import Mixup

    mixer: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = Mixup(  # type: ignore[no-untyped-call]
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        label_smoothing=recipe.label_smoothing,
        num_classes=num_classes,
    )
    return mixer
