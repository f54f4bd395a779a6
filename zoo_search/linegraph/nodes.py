"""Modules for nodes: the author's own module where one fits, else a short program over them.

A :class:`Program` runs the author's modules and the operations between them. It is plain data, so
a node pickles, copies and changes dtype or device like any module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from zoo_search.linegraph.follow import resolve
from zoo_search.linegraph.recording import Ref, map_leaves

__all__ = ["Program", "Scope", "Step"]


@dataclass(frozen=True)
class Step:
    """One step: a module call or an operation.

    Attributes:
        target: Path of a module, or the function to call.
        args: Arguments, with :class:`Ref` for tensors and what follows the input as such.
        kwargs: Keyword arguments, likewise.
        output: Where the result goes: a :class:`Ref` or nested containers of them.
        updates: ``(new, old)``: value ``old``, written into, goes on as ``new``.
        frees: Values that are not needed after this step.
    """

    target: str | Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    updates: tuple[tuple[int, int], ...] = ()
    frees: tuple[int, ...] = ()


class Scope(nn.Module):
    """Holds modules and parameters under the names that they have in the author's model."""


class Program(Scope):
    """Runs steps on one input tensor.

    Args:
        steps: What to run, in order.
        source: Value number of the input.
        result: The output: a :class:`Ref` or nested containers of them.
        leaves: Dotted names of parameters and buffers held by this module, by value number.
        copies_input: Whether a step writes into the input, which is then cloned first.
    """

    def __init__(
        self,
        steps: tuple[Step, ...],
        source: int,
        result: Any,
        leaves: dict[int, str],
        copies_input: bool,
    ) -> None:
        super().__init__()
        self._recipe = _Recipe(steps, source, result, leaves, copies_input)

    def forward(self, x: Tensor) -> Any:
        """Run the steps on ``x``."""
        recipe = self._recipe
        values: dict[int, Any] = {n: _fetch(self, name) for n, name in recipe.leaves.items()}
        values[recipe.source] = x.clone() if recipe.copies_input else x

        def fill(leaf: Any) -> Any:
            return values[leaf.index] if isinstance(leaf, Ref) else resolve(leaf, x)

        for step in recipe.steps:
            args, kwargs = map_leaves(fill, step.args), map_leaves(fill, step.kwargs)
            if isinstance(step.target, str):
                out = _fetch(self, step.target)(*args, **kwargs)
            else:
                if step.target in _DROPOUTS:
                    kwargs["training"] = self.training
                    args = args[:2]
                out = step.target(*args, **kwargs)
            for new, old in step.updates:
                values[new] = values[old]
            _bind(step.output, out, values)
            for number in step.frees:
                values.pop(number, None)
        return map_leaves(fill, recipe.result)

    def extra_repr(self) -> str:
        """Name the steps."""
        names = [
            step.target if isinstance(step.target, str) else getattr(step.target, "__name__", "?")
            for step in self._recipe.steps
        ]
        return " → ".join(names)


@dataclass(frozen=True)
class _Recipe:
    """What a program runs; shared by its copies."""

    steps: tuple[Step, ...]
    source: int
    result: Any
    leaves: dict[int, str]
    copies_input: bool

    def __deepcopy__(self, memo: dict[int, Any]) -> _Recipe:
        return self


_DROPOUTS = frozenset(
    {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout}
)


def _fetch(module: nn.Module, name: str) -> Any:
    """Return the module, parameter or buffer at a dotted name."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _bind(template: Any, value: Any, values: dict[int, Any]) -> None:
    """Store the tensors of ``value`` under the numbers that ``template`` gives them."""
    if isinstance(template, Ref):
        values[template.index] = value
    elif isinstance(template, tuple | list):
        for part, item in zip(template, value, strict=True):
            _bind(part, item, values)
    elif isinstance(template, dict):
        for key, part in template.items():
            _bind(part, value[key], values)
