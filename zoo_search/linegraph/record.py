"""Run a model once and write down what it computes.

The model runs as it is, on meta tensors, under a :class:`TorchFunctionMode`. Each call of a torch
function becomes an :class:`Operation` over numbered values, each call of a module a :class:`Call`.
Python control flow, type checks and early returns therefore behave as they always do. A value is
a *version* of a tensor: an operation that writes into a tensor gives it a new number.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from zoo_search.linegraph.cost import FlopCount, known_tensors
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

_FACTORIES: dict[object, Callable[..., object]] = {
    torch.zeros_like: torch.zeros,
    torch.ones_like: torch.ones,
    torch.empty_like: torch.empty,
    Tensor.new_zeros: torch.zeros,
    Tensor.new_ones: torch.ones,
    Tensor.new_empty: torch.empty,
}


_NORMS: frozenset[Callable[..., object]] = frozenset({F.batch_norm, F.layer_norm, F.group_norm})


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
        self._known = known
        self._number: dict[int, int] = {}
        self._sharing: defaultdict[int, list[Tensor]] = defaultdict(list)
        self._stack: list[Call] = []
        self._ancestries: list[tuple[str, ...]] = [()]
        self._flops = FlopCount()

    def enter(self, path: str, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Note that a module starts."""
        call = Call(path, self._to_refs(args), self._to_refs(kwargs), len(self.operations))
        if self._stack:
            self._stack[-1].items.append(call)
        self._stack.append(call)
        self._ancestries.append(_extended(self._ancestries[-1], path))

    def leave(self, output: object) -> Call:
        """Note that the innermost module ends."""
        call = self._stack.pop()
        self._ancestries.pop()
        call.stop = len(self.operations)
        call.output = self._to_refs(output)
        return call

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        inputs = _tensors((args, kwargs))
        # Torch counts the writes into a tensor: whatever counts more afterwards was written into.
        versions = [tensor._version for tensor in inputs]
        output: object
        if func in _NORMS and not kwargs.get("training"):
            output = torch.empty_like(inputs[0])  # what it gives on meta tensors, ten times faster
        elif getattr(func, "__name__", "") in _FREE:
            output = func(*args, **kwargs)
        else:
            with self._flops:
                output = func(*args, **kwargs)
        written = [t for t, v in zip(inputs, versions, strict=True) if t._version != v]
        if written or _tensors(output):
            self._note(func, args, kwargs, output, written)
        return output

    def _note(
        self,
        func: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        output: object,
        written: list[Tensor],
    ) -> None:
        """Append one operation."""
        made = _tensors(output)
        if func in _FACTORIES:
            # A tensor made in the form of another one does not depend on what that one holds.
            func, args = _FACTORIES[func], (tuple(made[0].shape),)
            kwargs = {"dtype": made[0].dtype, "device": made[0].device}
        if getattr(func, "__name__", "") == "__get__":
            func = operator.attrgetter(func.__self__.__name__)  # type: ignore[attr-defined]
        # The arguments are numbered before the outputs and updates: they mean the old versions.
        index = len(self.operations)
        arg_refs, kwarg_refs = self._to_refs(args), self._to_refs(kwargs)
        from_image = any(self.values[i].from_image for i in refs_in(arg_refs, kwarg_refs))
        # Writing into a tensor changes every view of its memory: all get a new number.
        updates = []
        for tensor in self._aliases(written):
            old = self._number_of(tensor)
            new = self.define(tensor, from_image or self.values[old].from_image, index)
            updates.append((new, old))
        # An operation in place returns its argument, which has got its new number above.
        given = {id(tensor) for tensor in _tensors((args, kwargs))} if written else set()
        for tensor in made:
            if id(tensor) not in given:
                self.define(tensor, from_image, index)
        self.operations.append(
            Operation(
                index,
                func,
                arg_refs,
                kwarg_refs,
                self._to_refs(output),
                tuple(updates),
                self._ancestries[-1] or ("",),
                self._flops.take(),
                from_image,
            )
        )
        if self._stack:
            self._stack[-1].items.append(index)

    def _aliases(self, written: list[Tensor]) -> list[Tensor]:
        """Return the known tensors that share memory with the ones written into."""
        shared = [other for t in written for other in self._sharing[_storage(t)]]
        return list({id(tensor): tensor for tensor in [*written, *shared]}.values())

    def define(
        self, tensor: Tensor, from_image: bool, producer: int | None = None, leaf: str | None = None
    ) -> int:
        """Number a new version of ``tensor``."""
        if id(tensor) not in self._number:  # being kept, its id is not used again
            self._sharing[_storage(tensor)].append(tensor)
        number = len(self.values)
        self._number[id(tensor)] = number
        self.values.append(Value(number, from_image, producer, leaf, tuple(tensor.shape)))
        return number

    def _number_of(self, tensor: Tensor) -> int:
        """Return the number of the newest version of ``tensor``."""
        if id(tensor) in self._number:
            return self._number[id(tensor)]
        if id(tensor) in self._known:
            return self.define(tensor, False, leaf=self._known[id(tensor)][0])
        # No torch function made it and no module holds it: tracing cannot say what it depends on.
        where = self._stack[-1].path if self._stack else ""
        return self.define(tensor, True, leaf=f"?{where}")

    def _to_refs(self, tree: object) -> Any:
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
    # From ``stages.0`` to ``stages.0.blocks.1`` the list ``stages.0.blocks``, which nobody calls.
    inner = accumulate(path[len(top) :].split("."), "{}.{}".format)
    return (*above, *(top + path for path in inner))


def _tensors(tree: object) -> list[Tensor]:
    """Return the tensors among the leaves of a tree."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    """Return an identity of the memory behind ``tensor``."""
    return int(tensor.untyped_storage()._cdata)


def record(model: nn.Module, x: Tensor) -> Recording:
    """Run a model on images ``[B, C, H, W]`` and return what it computed.

    It must be in eval mode, on the device and in the dtype of ``x``; hooks are put on it for good.
    """
    marks: list[int] = []
    calls: list[Call] = []
    model.requires_grad_(False)
    with torch.no_grad():
        recorder = Recorder(known_tensors(model))
        for path, module in model.named_modules():

            def before(
                _: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], path: str = path
            ) -> None:
                recorder.enter(path, args, kwargs)

            def after(_: nn.Module, args: object, kwargs: object, output: object) -> None:
                calls.append(recorder.leave(output))

            module.register_forward_pre_hook(before, with_kwargs=True)
            module.register_forward_hook(after, with_kwargs=True)
        features = getattr(model, "forward_features", None)
        if callable(features):

            def marked(*args: object, **kwargs: object) -> object:
                out = features(*args, **kwargs)
                marks.append(len(recorder.operations))
                return out

            model.forward_features = marked  # type: ignore[assignment]
        recorder.define(x, from_image=True)  # number 0
        with recorder:
            model(x)
    return Recording(recorder.operations, recorder.values, calls[-1], marks[-1] if marks else None)
