"""What in a recording follows the input: batch size, dtype, device.

Two recordings of the same model, at two batch sizes and two dtypes, differ exactly in what follows
the input. An integer that reads ``a`` at batch size 2 and ``b`` at batch size 3 becomes the line
through both; the rest is constant by the shape contract.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zoo_search.linegraph.recording import Call, Operation, Recording, leaves, map_leaves


@dataclass(frozen=True)
class BatchInt:
    """The integer ``slope * batch + offset``."""

    slope: int
    offset: int


@dataclass(frozen=True)
class InputsOwn:
    """An attribute of the input: its ``dtype`` or ``device``."""

    attribute: str


class DoesNotFollowError(Exception):
    """Two recordings differ in a way that does not follow from the input alone."""


def resolve(leaf: object, x: Tensor) -> object:
    """Return what ``leaf`` stands for at input ``x``."""
    if isinstance(leaf, BatchInt):
        return leaf.slope * x.shape[0] + leaf.offset
    return getattr(x, leaf.attribute) if isinstance(leaf, InputsOwn) else leaf


def follow(first: Recording, second: Recording, batches: tuple[int, int]) -> Recording:
    """Return ``first`` with everything that differs from ``second`` as a function of the input.

    Raises:
        DoesNotFollowError: If the two differ in their operations.
    """
    if len(first.operations) != len(second.operations):
        raise DoesNotFollowError(
            f"{len(first.operations)} operations at batch size {batches[0]}, "
            f"{len(second.operations)} at batch size {batches[1]}"
        )
    operations = [
        _operation(a, b, batches) for a, b in zip(first.operations, second.operations, strict=True)
    ]
    root = _call(first.root, second.root, batches)
    return Recording(operations, first.values, root, first.features_at)


def _operation(a: Operation, b: Operation, batches: tuple[int, int]) -> Operation:
    """Merge one operation of both recordings; flops become those of one image."""
    if a.function is not b.function and repr(a.function) != repr(b.function):
        raise DoesNotFollowError(f"{a.function} in {a.module} at one batch size only")
    # On the line through the counts at both batch sizes: count(n) = a + slope (n - n_0), so
    # count(1) = a - slope (n_0 - 1).
    slope = (b.flops - a.flops) // (batches[1] - batches[0])
    return replace(
        a,
        args=_merge(a.args, b.args, batches),
        kwargs=_merge(a.kwargs, b.kwargs, batches),
        flops=a.flops - slope * (batches[0] - 1),
    )


def _call(a: Call, b: Call, batches: tuple[int, int]) -> Call:
    """Merge one module call of both recordings."""
    items = [
        _call(x, y, batches) if isinstance(x, Call) and isinstance(y, Call) else x
        for x, y in zip(a.items, b.items, strict=True)
    ]
    args, kwargs = _merge(a.args, b.args, batches), _merge(a.kwargs, b.kwargs, batches)
    return replace(a, args=args, kwargs=kwargs, items=items)


def _merge(a: object, b: object, batches: tuple[int, int]) -> Any:
    """Merge two argument trees of the same structure."""
    rest = iter(leaves(b))  # in the same order as those of the other tree
    return map_leaves(lambda leaf: _leaf(leaf, next(rest, None), batches), a)


def _leaf(a: object, b: object, batches: tuple[int, int]) -> object:
    """Merge two leaves."""
    if isinstance(a, torch.device):
        return InputsOwn("device")
    if isinstance(a, torch.dtype):
        return a if a == b else InputsOwn("dtype")
    if isinstance(a, int) and isinstance(b, int) and a != b and not isinstance(a, bool):
        # The line through both readings: a(n) = slope n + offset.
        slope, rest = divmod(b - a, batches[1] - batches[0])
        if rest:
            raise DoesNotFollowError(f"{a} at batch size {batches[0]}, {b} at {batches[1]}")
        return BatchInt(slope, a - slope * batches[0])
    return a
