"""Modules for nodes: the author's own module where one fits, else a short program over them.

A :class:`NodeProgram` runs the author's modules and the operations between them. It is plain data,
so a node pickles, copies and changes dtype or device like any module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from zoo_search.linegraph.follow import resolve
from zoo_search.linegraph.recording import Ref, leaves, map_leaves, refs_in


@dataclass(frozen=True)
class NodeStep:
    """One step: a module call or an operation.

    Attributes:
        target: Path of a module, or the function to call.
        args: Arguments, with :class:`Ref` for tensors and what follows the input as such.
        kwargs: Keyword arguments, likewise.
        output: Where the result goes: a :class:`Ref` or nested containers of them.
        updates: ``(new, old)``: value ``old``, written into, goes on as ``new``.
        frees: Values that are not needed after this step.
    """

    target: str | Callable[..., object]
    args: tuple[object, ...]
    kwargs: dict[str, object]
    output: object
    updates: tuple[tuple[int, int], ...] = ()
    frees: tuple[int, ...] = ()

    @property
    def inputs(self) -> list[int]:
        """Numbers of the values that it reads or writes into."""
        return [*refs_in(self.args, self.kwargs), *(old for _, old in self.updates)]

    @property
    def outputs(self) -> list[int]:
        """Numbers of the values that it makes."""
        return [*refs_in(self.output), *(new for new, _ in self.updates)]


@dataclass(frozen=True)
class NodeSteps:
    """What a program runs; shared by its copies.

    Attributes:
        steps: What to run, in order.
        source: Value number of the input.
        result: The output: a :class:`Ref` or nested containers of them.
        leaves: Dotted names of the program's parameters and buffers, by value number.
        copies_input: Whether a step writes into the input, which is then cloned first.
    """

    steps: tuple[NodeStep, ...]
    source: int
    result: object
    leaves: dict[int, str]
    copies_input: bool

    def __deepcopy__(self, memo: dict[int, object]) -> NodeSteps:
        return self


class Scope(nn.Module):
    """Holds modules and parameters under the names that they have in the author's model."""


class NodeProgram(Scope):
    """Runs steps on one input tensor."""

    def __init__(self, run: NodeSteps) -> None:
        super().__init__()
        self._run = run

    def forward(self, x: Tensor) -> Any:
        """Run the steps on ``x``."""
        run = self._run
        values: dict[int, object] = {n: attrgetter(at)(self) for n, at in run.leaves.items()}
        values[run.source] = x.clone() if run.copies_input else x

        def fill(leaf: object) -> object:
            return values[leaf.index] if isinstance(leaf, Ref) else resolve(leaf, x)

        for step in run.steps:
            args, kwargs = map_leaves(fill, step.args), map_leaves(fill, step.kwargs)
            if isinstance(step.target, str):
                out = attrgetter(step.target)(self)(*args, **kwargs)
            else:
                # Recorded in eval mode, they hold training=False; here the node's own mode counts.
                if step.target in _DROPOUTS:
                    kwargs["training"] = self.training
                    args = args[:2]
                out = step.target(*args, **kwargs)
            # Written into: the tensor is the same one, under the number of its new version.
            for new, old in step.updates:
                values[new] = values[old]
            for ref, made in zip(leaves(step.output), leaves(out), strict=True):
                if isinstance(ref, Ref):
                    values[ref.index] = made
            for number in step.frees:
                values.pop(number, None)
        return map_leaves(fill, run.result)

    def extra_repr(self) -> str:
        """Name the steps."""
        names = [
            step.target if isinstance(step.target, str) else getattr(step.target, "__name__", "?")
            for step in self._run.steps
        ]
        return " → ".join(names)


_DROPOUTS = frozenset(
    {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout}
)
