"""The size limit of Eq. 5 in exact arithmetic: who breaks it, and the smallest eps that works."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction

from zoo_search.core.errors import UserError

_DECIMALS = 4
_UNITS = {"nodes": "nodes", "params": "parameters", "macs": "MACs"}


def size_limit(total: int, k: int, eps: float) -> Fraction:
    """Return ``(1 + eps) |M| / K`` exactly; ``eps`` is read as the decimal it prints as.

    A block must stay strictly below it (DeRy Eq. 5).
    """
    return (1 + Fraction(repr(float(eps)))) * total / k


def longest_blocks(sizes: Sequence[int], limit: Fraction) -> list[int]:
    """Return, for each start node, the largest stop of a block strictly below ``limit``.

    A stop that equals the start says that this node alone is too large.
    """
    # A window of nodes, [start, stop) of size held, that only moves on.
    stops, stop, held = [], 0, 0
    for start, size in enumerate(sizes):
        if stop < start:
            stop, held = start, 0
        while stop < len(sizes) and held + sizes[stop] < limit:
            held += sizes[stop]
            stop += 1
        stops.append(stop)
        if stop > start:
            held -= size
    return stops


def smallest_largest_block(sizes: Sequence[int], k: int) -> int:
    """Return the least possible size of the largest block over all contiguous K-partitions.

    Splitting a block never makes the largest one larger, so "at most K blocks" and "exactly K
    blocks" (for K nodes or more) have the same answer, found by bisection over whole numbers.
    """

    def fits(limit: int) -> bool:
        # Filling block after block up to the limit needs as few blocks as any way does.
        blocks, held = 1, 0
        for size in sizes:
            if held + size > limit:
                blocks, held = blocks + 1, 0
            held += size
        return blocks <= k

    least = max(sizes)
    return least + bisect_left(range(least, sum(sizes)), True, key=fits)


def smallest_eps(sizes: Sequence[int], k: int) -> float:
    """Return the smallest eps of four decimals that admits a K-partition of one model.

    The inequality is strict, so the value is the next decimal strictly above the bound
    ``K * smallest_largest_block / |M| - 1``.
    """
    bound = Fraction(smallest_largest_block(sizes, k) * k, sum(sizes)) - 1
    return float(Fraction(int(bound * 10**_DECIMALS) + 1, 10**_DECIMALS))


def check_limits(
    models: Sequence[str],
    node_names: Sequence[Sequence[str]],
    sizes: Sequence[Sequence[int]],
    k: int,
    eps: float,
    size: str,
) -> None:
    """Refuse a zoo in which some model has no K-partition within the size limit.

    Raises:
        UserError: Names the model, the node at which it fails, and the smallest eps with which
            every model of the zoo has a partition.
    """
    for name, model_sizes in zip(models, sizes, strict=True):
        if len(model_sizes) < k:
            raise UserError(
                f"Model '{name}' has {len(model_sizes)} nodes, fewer than the k = {k} blocks that "
                f"'partition.k' asks for. Set k to {len(model_sizes)} or less, or take the model "
                "out of the zoo."
            )
        if sum(model_sizes) == 0:
            raise UserError(
                f"Model '{name}' has no {_UNITS[size]} in any node, so 'partition.size: {size}' "
                "cannot limit its blocks. Use 'size: nodes', or take the model out of the zoo."
            )
    for name, nodes, model_sizes in zip(models, node_names, sizes, strict=True):
        limit = size_limit(sum(model_sizes), k, eps)
        reason = _why_infeasible(nodes, model_sizes, k, limit, _UNITS[size])
        if reason is not None:
            needed, own = max(smallest_eps(s, k) for s in sizes), smallest_eps(model_sizes, k)
            alone = "" if own == needed else f" (model '{name}' alone needs {own:g})"
            others = "" if size == "nodes" else ", use 'size: nodes'"
            raise UserError(
                f"Model '{name}' has no partition into k = {k} blocks of fewer than "
                f"(1 + {eps:g}) * {sum(model_sizes):,} / {k} = {float(limit):,.10g} "
                f"{_UNITS[size]}: {reason}. The smallest 'partition.eps' that works for "
                f"every model of this zoo is {needed:g}{alone}. "
                f"Set it{others}, choose another k, or take the model out."
            )


def _why_infeasible(
    nodes: Sequence[str], sizes: Sequence[int], k: int, limit: Fraction, unit: str
) -> str | None:
    """Return what breaks the limit, with the node's index and name; None if nothing does."""
    largest = max(range(len(sizes)), key=sizes.__getitem__)
    if sizes[largest] >= limit:
        return f"node {largest} '{nodes[largest]}' alone has {sizes[largest]:,} {unit}"
    stops = longest_blocks(sizes, limit)
    position = 0
    for _ in range(k):
        position = stops[position]
        if position == len(sizes):
            return None
    return (
        f"blocks as long as the limit allows end before node {position} '{nodes[position]}' "
        f"and leave {len(sizes) - position} of {len(sizes)} nodes over"
    )
