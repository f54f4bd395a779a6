"""What one run of a model computed, as data: values, operations, module calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Call", "Operation", "Recording", "Ref", "Value", "leaves", "map_leaves", "refs_in"]


@dataclass(frozen=True)
class Ref:
    """Stands for value ``index`` in the arguments and outputs of operations and calls."""

    index: int


@dataclass(frozen=True)
class Value:
    """One version of a tensor.

    Attributes:
        index: Its number.
        from_image: Whether it depends on the image's content.
        producer: Index of the operation that made it; None for the image and for leaves.
        leaf: Name of the parameter or buffer, or of the attribute that holds a constant tensor.
        shape: Shape at the recorded input.
    """

    index: int
    from_image: bool
    producer: int | None
    leaf: str | None
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One call of a torch function.

    Attributes:
        index: Its place in the recording.
        function: What was called.
        args: Positional arguments, with tensors replaced by :class:`Ref`.
        kwargs: Keyword arguments, likewise.
        output: What came back, likewise.
        updates: ``(new, old)`` pairs of values for the tensors that were written into.
        ancestry: Paths of the modules around it, from the root ``""`` to the innermost running
            one; lists of modules, which never run themselves, included.
        flops: Floating point operations as ``torch.utils.flop_counter`` counts them.
        from_image: Whether an output or an update depends on the image's content.
    """

    index: int
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    updates: tuple[tuple[int, int], ...]
    ancestry: tuple[str, ...]
    flops: int
    from_image: bool

    @property
    def module(self) -> str:
        """Path of the innermost module that was running."""
        return self.ancestry[-1]


@dataclass
class Call:
    """One call of a module, covering the operations ``[start, stop)``."""

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    start: int
    stop: int = -1
    output: Any = None
    items: list[Call | int] = field(default_factory=list)


@dataclass
class Recording:
    """What one run of a model computed.

    Attributes:
        operations: Every recorded operation, in order.
        values: Every value, by number; number 0 is the image.
        root: The call of the model itself.
        features_at: Number of operations done when ``forward_features`` returned, if it ran.
    """

    operations: list[Operation]
    values: list[Value]
    root: Call
    features_at: int | None = None


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply ``function`` to the leaves of nested tuples, lists, dicts and slices."""
    if isinstance(tree, tuple):
        mapped = [map_leaves(function, item) for item in tree]
        return type(tree)(*mapped) if hasattr(tree, "_fields") else tuple(mapped)
    if isinstance(tree, list):
        return [map_leaves(function, item) for item in tree]
    if isinstance(tree, Mapping):
        return {key: map_leaves(function, item) for key, item in tree.items()}
    if isinstance(tree, slice):
        return slice(*(map_leaves(function, part) for part in (tree.start, tree.stop, tree.step)))
    return function(tree)


def leaves(tree: Any) -> Iterator[Any]:
    """Yield the leaves of nested tuples, lists, dicts and slices."""
    found: list[Any] = []
    map_leaves(found.append, tree)
    yield from found


def refs_in(*trees: Any) -> list[int]:
    """Return the numbers of the values that ``trees`` refer to, in order, each once."""
    return list(dict.fromkeys(leaf.index for leaf in leaves(trees) if isinstance(leaf, Ref)))
