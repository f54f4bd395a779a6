"""The target's images as the zoo's models want them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_search.data.base import Images as Loaded
from zoo_search.data.base import Subset
from zoo_search.data.preprocess import Preprocess
from zoo_search.data.view import View
from zoo_search.networks.parents import Models, Parents

Images = Tensor | Mapping[str, Tensor]
"""Images ``[N, C, H, W]`` for all models, or one such tensor a model (same images, same order)."""


def images_of(images: Images, model: str) -> Tensor:
    """Return the images for a model, by its name."""
    return images if isinstance(images, Tensor) else images[model]


def as_input(
    x: Tensor, input_size: tuple[int, int, int], transform: Preprocess | None = None
) -> Tensor:
    """Return what a network takes for images ``x`` ``[N, C, H, W]``.

    uint8 images are raw: they are brought to ``input_size`` ``(C, H, W)`` and normalised by
    ``transform.normalize`` (divided by 255 where there is none). Float images are taken as
    normalised already and are only resized.
    """
    raw = x.dtype == torch.uint8
    if tuple(x.shape[-2:]) != tuple(input_size[1:]):
        x = F.interpolate(x.float(), size=input_size[1:], mode="bilinear", antialias=True)
        x = x.round().clamp(0, 255).to(torch.uint8) if raw else x
    if raw:
        x = transform.normalize(x) if transform is not None else x.float() / 255
    return x


def load_target(
    target: Subset | tuple[Tensor, Tensor], zoo: Models, most: int | None = None
) -> tuple[Images, Tensor]:
    """Return raw images for each model (those of equal preprocessing share memory) and labels.

    ``most`` takes only the first so many; subsets are in a seeded, mixed order.
    """
    if isinstance(target, tuple):
        images, labels = target
        return images[:most], labels[:most].to(torch.int64)
    subset = target.first(most)
    views: dict[View, Loaded] = {}
    per_model: dict[str, Tensor] = {}
    for name, parent in Parents(zoo).items():
        transform, size = parent.transform, parent.graph.input_size[1:]
        view = View(size) if transform is None else transform.view
        if view not in views:
            views[view] = subset.load(view)
        per_model[name] = views[view].images
    return per_model, next(reversed(views.values())).labels
