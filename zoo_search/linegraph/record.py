"""Run a model once and write down what it computes.

The model runs as it is, on meta tensors, under a :class:`TorchFunctionMode`. Each call of a torch
function becomes an :class:`Operation` over numbered values, each call of a module a :class:`Call`.
Python control flow, type checks and early returns therefore behave as they always do. A value is
a *version* of a tensor: an operation that writes into a tensor gives it a new number.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from zoo_search.linegraph.cost import FlopCount
from zoo_search.linegraph.recording import (
    Call,
    Operation,
    Recording,
    Ref,
    Value,
    leaves,
    map_leaves,
    refs_in,
)

__all__ = ["record"]

_FACTORIES: dict[Any, Callable[..., Any]] = {
    torch.zeros_like: torch.zeros,
    torch.ones_like: torch.ones,
    torch.empty_like: torch.empty,
    Tensor.new_zeros: torch.zeros,
    Tensor.new_ones: torch.ones,
    Tensor.new_empty: torch.empty,
}


_NORMS: frozenset[Callable[..., Any]] = frozenset({F.batch_norm, F.layer_norm, F.group_norm})


# Functions without multiplications of matrices, by name: not worth counting.
_FREE = frozenset({
    "__get__", "__getitem__", "__setitem__", "__add__", "__mul__", "__sub__", "__truediv__",
    "add", "add_", "mul", "mul_", "sub", "div", "size", "dim", "view", "reshape", "permute",
    "transpose", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "contiguous",
    "chunk", "split", "unbind", "cat", "stack", "relu", "relu_", "relu6", "gelu", "silu",
    "sigmoid", "softmax", "dropout", "hardswish", "hardsigmoid", "hardtanh_", "hardtanh",
    "clamp", "mean", "sum", "pad", "roll", "is_contiguous", "numel", "type_as", "max_pool2d",
    "avg_pool2d", "adaptive_avg_pool2d", "interpolate", "_assert",
})  # fmt: skip


class Recorder(TorchFunctionMode):
    """Records torch functions; :meth:`enter` and :meth:`leave` are called by module hooks."""

    def __init__(self, known: Mapping[int, tuple[str, Tensor]]) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.values: list[Value] = []
        self.lost: list[str] = []
        self._known = known
        self._number: dict[int, int] = {}
        self._alive: list[Tensor] = []
        self._sharing: dict[int, list[Tensor]] = {}
        self._stack: list[Call] = []
        self._ancestries: list[tuple[str, ...]] = []
        self._flops = FlopCount()

    def image(self, x: Tensor) -> None:
        """Give the image number 0."""
        self._define(x, from_image=True, producer=None, leaf=None)

    def enter(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note that a module starts."""
        call = Call(path, self._to_refs(args), self._to_refs(kwargs), len(self.operations))
        if self._stack:
            self._stack[-1].items.append(call)
        self._stack.append(call)
        above = self._ancestries[-1] if self._ancestries else ()
        self._ancestries.append(_extended(above, path))

    def leave(self, output: Any) -> Call:
        """Note that the innermost module ends."""
        call = self._stack.pop()
        self._ancestries.pop()
        call.stop = len(self.operations)
        call.output = self._to_refs(output)
        return call

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        inputs = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        versions = [tensor._version for tensor in inputs]
        if func in _NORMS and not kwargs.get("training"):
            output = torch.empty_like(args[0])  # what it gives on meta tensors, ten times faster
        elif getattr(func, "__name__", "") in _FREE:
            output = func(*args, **kwargs)
        else:
            with self._flops:
                output = func(*args, **kwargs)
        written = [t for t, v in zip(inputs, versions, strict=True) if t._version != v]
        if written or any(isinstance(leaf, Tensor) for leaf in leaves(output)):
            self._note(func, args, kwargs, output, written)
        return output

    def _note(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        written: list[Tensor],
    ) -> None:
        """Append one operation."""
        if func in _FACTORIES:
            func, args, kwargs = (
                _FACTORIES[func],
                (tuple(output.shape),),
                {"dtype": output.dtype, "device": output.device},
            )
        if getattr(func, "__name__", "") == "__get__":
            func = operator.attrgetter(func.__self__.__name__)  # type: ignore[attr-defined]
        index = len(self.operations)
        arg_refs, kwarg_refs = self._to_refs(args), self._to_refs(kwargs)
        from_image = any(self.values[i].from_image for i in refs_in(arg_refs, kwarg_refs))
        updates = []
        for tensor in self._aliases(written):
            old = self._number_of(tensor)
            new = self._define(tensor, from_image or self.values[old].from_image, index, None)
            updates.append((new, old))
        given = {id(leaf) for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in leaves(output):
            if isinstance(leaf, Tensor) and not (written and id(leaf) in given):
                self._define(leaf, from_image, index, None)
        self.operations.append(
            Operation(
                index,
                func,
                arg_refs,
                kwarg_refs,
                self._to_refs(output),
                tuple(updates),
                self._ancestries[-1] if self._ancestries else ("",),
                self._flops.take(),
                from_image,
            )
        )
        if self._stack:
            self._stack[-1].items.append(index)

    def _aliases(self, written: list[Tensor]) -> list[Tensor]:
        """Return the known tensors that share memory with the ones written into."""
        found = {id(tensor): tensor for tensor in written}
        for tensor in written:
            for other in self._sharing.get(_storage(tensor), []):
                found.setdefault(id(other), other)
        return list(found.values())

    def _define(
        self, tensor: Tensor, from_image: bool, producer: int | None, leaf: str | None
    ) -> int:
        """Number a new version of ``tensor``."""
        if id(tensor) not in self._number:
            self._alive.append(tensor)  # keeps its id from being used again
            self._sharing.setdefault(_storage(tensor), []).append(tensor)
        number = len(self.values)
        self._number[id(tensor)] = number
        self.values.append(Value(number, from_image, producer, leaf, tuple(tensor.shape)))
        return number

    def _number_of(self, tensor: Tensor) -> int:
        """Return the number of the newest version of ``tensor``."""
        if id(tensor) in self._number:
            return self._number[id(tensor)]
        if id(tensor) in self._known:
            return self._define(tensor, False, None, self._known[id(tensor)][0])
        where = self._stack[-1].path if self._stack else ""
        self.lost.append(where)
        return self._define(tensor, True, None, f"?{where}")

    def _to_refs(self, tree: Any) -> Any:
        """Replace tensors by references."""
        return map_leaves(
            lambda leaf: Ref(self._number_of(leaf)) if isinstance(leaf, Tensor) else leaf, tree
        )


def _extended(above: tuple[str, ...], path: str) -> tuple[str, ...]:
    """Add ``path`` to the ancestry ``above``, with the lists of modules between the two."""
    if not above:
        return (path,)
    top = f"{above[-1]}." if above[-1] else ""
    if not path.startswith(top):
        return (*above, path)  # a module that lives elsewhere, shared between blocks
    parts = path[len(top) :].split(".")
    return (*above, *(top + ".".join(parts[: i + 1]) for i in range(len(parts))))


def _storage(tensor: Tensor) -> int:
    """Return an identity of the memory behind ``tensor``."""
    return int(tensor.untyped_storage()._cdata)


_OWN = frozenset(vars(nn.Module()))


def known_tensors(model: nn.Module) -> dict[int, tuple[str, Tensor]]:
    """Return every tensor that ``model`` holds, by id: parameters, buffers, plain attributes.

    Names are ``path.attribute``; items of lists and dicts are ``path.attribute[key]``.
    """
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        found.setdefault(id(tensor), (name, tensor))
    for path, module in model.named_modules():
        for attribute, held in vars(module).items():
            if attribute in _OWN or not isinstance(held, Tensor | list | tuple | dict):
                continue
            name = f"{path}.{attribute}" if path else attribute
            items: list[tuple[str, Any]] = [(name, held)]
            if isinstance(held, list | tuple):
                items = [(f"{name}[{i}]", item) for i, item in enumerate(held)]
            elif isinstance(held, dict):
                items = [(f"{name}[{key!r}]", item) for key, item in held.items()]
            for item_name, item in items:
                if isinstance(item, Tensor):
                    found.setdefault(id(item), (item_name, item))
    return found


def record(model: nn.Module, x: Tensor) -> Recording:
    """Run ``model`` on ``x`` and return what it computed. Hooks are put on ``model`` for good.

    Args:
        model: A copy that may be spoilt, in eval mode, on the device and dtype of ``x``.
        x: Image batch ``[B, C, H, W]``.
    """
    marks: list[int] = []
    calls: list[Call] = []
    model.requires_grad_(False)
    with torch.no_grad():
        recorder = Recorder(known_tensors(model))
        for path, module in model.named_modules():

            def before(_: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
                recorder.enter(path, args, kwargs)

            def after(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
                calls.append(recorder.leave(output))

            module.register_forward_pre_hook(before, with_kwargs=True)
            module.register_forward_hook(after, with_kwargs=True)
        features = getattr(model, "forward_features", None)
        if callable(features):

            def marked(*args: Any, **kwargs: Any) -> Any:
                out = features(*args, **kwargs)
                marks.append(len(recorder.operations))
                return out

            model.forward_features = marked  # type: ignore[assignment]
        recorder.image(x)
        with recorder:
            model(x)
    return Recording(recorder.operations, recorder.values, calls[-1], marks[-1] if marks else None)
