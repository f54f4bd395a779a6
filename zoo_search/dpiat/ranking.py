"""Similarity of architectures (DPIAT, section 3.5, Eqs. 4 and 5), and sources ranked by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import nn

from zoo_search.core.errors import UserError
from zoo_search.dpiat.matching import match_blocks
from zoo_search.dpiat.standardize import Block, standardize

if TYPE_CHECKING:
    from zoo_search.zoo import ZooModel


def similarity(a: nn.Module, b: nn.Module) -> float:
    """Return how similar two architectures are, in [0, 1], by the shapes of their layers alone.

    It is 1 for an architecture with itself and 0 without a common layer type, in either order, on
    any device (meta too). Source: section 3.5, Eqs. 4 and 5.

    Raises:
        UserError: If one of them has no parameters, or parameters that cannot be matched.
    """
    return block_similarity(standardize(a), standardize(b))


def rank_sources(
    target: nn.Module, zoo: Mapping[str, nn.Module | ZooModel]
) -> list[tuple[str, float]]:
    """Rank the models of a zoo, or torch modules by name, as sources of weights for ``target``.

    Weights are not read: modules on the meta device will do.

    Returns:
        Names and similarities (Eq. 5), most similar first; equal ones in the order of the zoo.

    Raises:
        UserError: If the target or a model has no parameters, or ones that cannot be matched.
    """
    blocks = standardize(target)
    ranking = []
    for name, model in zoo.items():
        module = model if isinstance(model, nn.Module) else model.module
        try:
            ranking.append((name, block_similarity(blocks, standardize(module))))
        except UserError as error:
            raise UserError(f"Model '{name}' of the zoo cannot be ranked: {error}") from error
    return sorted(ranking, key=lambda entry: -entry[1])


def block_similarity(a: Sequence[Block], b: Sequence[Block]) -> float:
    """Return Eq. 5 for two standardized networks."""
    # Matched with itself, a network scores 1 in every layer: score(a, a) is its number of layers.
    forward = match_blocks(a, b)[0] / sum(map(len, a))
    backward = match_blocks(b, a)[0] / sum(map(len, b))
    return min(1.0, math.sqrt(forward * backward))
