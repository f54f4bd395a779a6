"""The target's images as the zoo's models want them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo_search.reassembly.features import Images
from zoo_search.reassembly.recipe import HasGraph, graph_of

if TYPE_CHECKING:
    from zoo_search.data.base import Subset
    from zoo_search.linegraph.graph import LineGraph

__all__ = ["load_target"]


def load_target(
    target: Subset | tuple[Tensor, Tensor],
    zoo: Mapping[str, LineGraph | HasGraph],
    most: int | None = None,
) -> tuple[Images, Tensor]:
    """Return raw images for each model (those of equal preprocessing share memory) and labels.

    Args:
        target: A data subset, or images with labels.
        zoo: Models by name; their transforms say size, interpolation and crop.
        most: Take only the first so many images (subsets are in a seeded, mixed order).
    """
    if isinstance(target, tuple):
        images, labels = target
        return images[:most], labels[:most].to(torch.int64)
    subset = _first(target, most)
    loaded: dict[Any, Any] = {}
    per_model: dict[str, Tensor] = {}
    data: Any = None
    for name, model in zoo.items():
        transform: Any = getattr(model, "transform", None)
        how = (
            (graph_of(model).input_size[1:], "bicubic", 1.0)
            if transform is None
            else (tuple(transform.size), transform.interpolation, transform.crop_pct)
        )
        if how not in loaded:
            loaded[how] = subset.load(*how)
        data = loaded[how]
        per_model[name] = data.images
    return per_model, data.labels


def _first(subset: Subset, most: int | None) -> Subset:
    if most is None or most >= len(subset):
        return subset
    return replace(subset, ids=subset.ids[:most], labels=subset.labels[:most])
