"""When two networks are different enough to race both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from zoo_search.networks.recipe import Recipe
from zoo_search.reassembly import Candidate
from zoo_search.zoo import Zoo

_BLOCKS_APART = 2
"""Blocks by which two winners differ, unless they differ in enough of their multiply-adds."""


def apart(
    candidates: Iterable[Candidate], zoo: Zoo, least: float, begun: Sequence[Candidate] = ()
) -> Iterator[Candidate]:
    """Yield candidates of which no two are nearly the same network, in their order.

    Nor is any of them nearly the same as one of ``begun``.

    Two are far enough apart if each holds two blocks or more that the other does not hold, or if
    nodes that make up the share ``least`` of the multiply-adds of one of them are not in the other.
    """
    chosen = [*begun]
    for candidate in candidates:
        if all(
            _blocks_apart(candidate.recipe, other.recipe) >= _BLOCKS_APART
            or share_apart(candidate.recipe, other.recipe, zoo) >= least
            for other in chosen
        ):
            chosen.append(candidate)
            yield candidate


def _blocks_apart(first: Recipe, second: Recipe) -> int:
    ours, theirs = set(first.blocks), set(second.blocks)
    return min(len(ours - theirs), len(theirs - ours))


def share_apart(first: Recipe, second: Recipe, zoo: Zoo) -> float:
    """Return the share of a recipe's multiply-adds that nodes have which the other does not hold.

    It is the larger one of the two; stitches and heads do not count.
    """
    ours, theirs = _nodes(first, zoo), _nodes(second, zoo)
    shared = sum(macs for node, macs in ours.items() if node in theirs)
    return 1 - shared / max(1, sum(ours.values()), sum(theirs.values()))


def _nodes(recipe: Recipe, zoo: Zoo) -> dict[tuple[str, int], int]:
    """Return the multiply-adds of the nodes of a recipe, by model and place."""
    return {
        (block.model, place): zoo[block.model].graph.nodes[place].macs
        for block in recipe.blocks
        for place in range(block.start, block.stop)
    }
