"""What one run of a model computed, as data: values, operations, module calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ref:
    """Stands for value ``index`` in the arguments and outputs of operations and calls."""

    index: int


@dataclass(frozen=True)
class Value:
    """One version of a tensor.

    Attributes:
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

    @property
    def size(self) -> str:
        """Its shape in words, without the batch."""
        return "×".join(map(str, self.shape[1:]))


@dataclass(frozen=True)
class Operation:
    """One call of a torch function; :class:`Ref` stands for tensors among what goes in and out.

    Attributes:
        updates: ``(new, old)`` pairs of values for the tensors that were written into.
        ancestry: Paths of the modules around it, from the root ``""`` to the innermost running
            one; lists of modules, which never run themselves, included.
        flops: Floating point operations as ``torch.utils.flop_counter`` counts them.
        from_image: Whether an output or an update depends on the image's content.
    """

    index: int
    function: Callable[..., object]
    args: tuple[object, ...]
    kwargs: dict[str, object]
    output: object
    updates: tuple[tuple[int, int], ...]
    ancestry: tuple[str, ...]
    flops: int
    from_image: bool

    @property
    def module(self) -> str:
        """Path of the innermost module that was running."""
        return self.ancestry[-1]

    @property
    def name(self) -> str:
        """Name of the function; empty if it has none."""
        return str(getattr(self.function, "__name__", ""))

    @property
    def inputs(self) -> list[int]:
        """Numbers of the values among the arguments."""
        return refs_in(self.args, self.kwargs)


@dataclass
class Call:
    """One call of a module, covering the operations ``[start, stop)``."""

    path: str
    args: tuple[object, ...]
    kwargs: dict[str, object]
    start: int
    stop: int = -1
    output: object = None
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

    def maker(self, value: int) -> Operation | None:
        """Return the operation that made a value; None for the image and for leaves."""
        producer = self.values[value].producer
        return None if producer is None else self.operations[producer]


def map_leaves(function: Callable[[Any], object], tree: Any) -> Any:
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


def leaves(tree: object) -> list[object]:
    """Return the leaves of nested tuples, lists, dicts and slices, in order."""
    found: list[object] = []
    map_leaves(found.append, tree)
    return found


def refs_in(*trees: object) -> list[int]:
    """Return the numbers of the values that ``trees`` refer to, in order, each once."""
    return list(dict.fromkeys(leaf.index for leaf in leaves(trees) if isinstance(leaf, Ref)))
