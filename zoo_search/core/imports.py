"""Imports at run time: functions that run files name, and timm without its slowest half."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any, TypeVar

from zoo_search.core.errors import UserError, first_line, nearest

PREFIX = "module:"
_Function = Callable[..., object]
M = TypeVar("M")


def import_named(name: str, where: str) -> Callable[..., Any]:
    """Import the function that ``package.mod:function`` names, with or without the prefix.

    Raises:
        UserError: If the name is incomplete, the module cannot be imported, or there is no such
            function in it.
    """
    path, _, attribute = name.removeprefix(PREFIX).partition(":")
    if not path or not attribute:
        raise UserError(f"{where}: write 'module:package.mod:function', with both colons.")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{where}: no Python module '{error.name}' can be imported. Install the package, or "
            "start zoo-search in the folder that holds the module (or put that folder on "
            "PYTHONPATH)."
        ) from None
    except Exception as error:  # the user's own code
        raise UserError(
            f"{where}: the module '{path}' fails when it is imported: {type(error).__name__}: "
            f"{first_line(error)}. Mend it."
        ) from error
    if not hasattr(module, attribute):
        names = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise UserError(
            f"{where}: module '{path}' has no '{attribute}'.{nearest(attribute, names)}"
        )
    found: Callable[..., Any] = getattr(module, attribute)
    if not callable(found):
        raise UserError(
            f"{where}: '{attribute}' of module '{path}' is of type {type(found).__name__}. Name a "
            "function."
        )
    return found


def lazy(
    package: str, homes: Mapping[str, str], moved: Mapping[str, str] | None = None
) -> Callable[[str], object]:
    """Return the ``__getattr__`` of a package whose names are imported on first use (PEP 562).

    ``homes`` gives each name the module that holds it; ``moved`` does so for names that once stood
    in the package, which come with a ``DeprecationWarning`` that says where they are now.
    """
    known = {**homes, **(moved or {})}

    def get(name: str) -> object:
        if name not in known:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        if name not in homes:
            text = f"{package}.{name} has moved: import {name} from {known[name]}"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
        value: object = getattr(importlib.import_module(known[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get


def dispatch_without_dynamo(mode: type[M]) -> type[M]:
    """Let a ``TorchDispatchMode`` run before ``torch._dynamo`` is imported; a class decorator.

    Torch keeps its compiler out of such a mode, and imports the compiler to say so when the mode
    sees its first operation: seconds, in every process that counts or looks at operations. As long
    as nobody has imported the compiler, it needs not be told.
    """
    wrapped = vars(mode)["__torch_dispatch__"]
    method: _Function | None = getattr(wrapped, "__wrapped__", None)
    if method is not None:  # else this torch does not do so

        def call(*args: object, **kwargs: object) -> object:
            if "torch._dynamo" not in sys.modules:
                return method(*args, **kwargs)
            dynamo = importlib.import_module("torch._dynamo")
            told = dynamo.disable(method, True, wrapping=False)
            setattr(method, _TOLD, told)
            return told(*args, **kwargs)

        setattr(method, _TOLD, call)  # where torch keeps what it has told the compiler
    return mode


_TOLD = "__dynamo_disable"


def import_timm() -> ModuleType:
    """Import timm without ``torch._dynamo``, which takes longer than all of timm.

    Two lines ask for it at import although nothing has been compiled yet: torchvision's
    ``ops/roi_align.py`` (``torch._dynamo.utils.is_compile_supported``) and timm's
    ``models/naflexvit.py`` (the decorator ``torch.compiler.disable``). Both get a stand-in while
    timm is imported, which hands on to the real thing at its first call. Where torchvision or
    ``torch._dynamo`` has been imported before, nothing is saved and nothing is lost.
    """
    fresh = "timm" not in sys.modules and _DYNAMO not in sys.modules
    with _dynamo_put_off() if fresh else nullcontext():
        return importlib.import_module("timm")


_DYNAMO = "torch._dynamo.utils"


@contextmanager
def _dynamo_put_off() -> Iterator[None]:
    import torch.compiler

    eager: Callable[..., _Function] = torch.compiler.disable

    def late(fn: _Function | None = None, *args: object, **kwargs: object) -> _Function:
        if fn is None:
            return lambda fn: late(fn, *args, **kwargs)

        @functools.cache
        def disabled() -> _Function:
            return eager(fn, *args, **kwargs)

        @functools.wraps(fn)
        def call(*inputs: object, **named: object) -> object:
            return disabled()(*inputs, **named)

        return call

    def is_compile_supported(device: str) -> bool:
        return bool(importlib.import_module(_DYNAMO).is_compile_supported(device))

    # ``from torch._dynamo.utils import name`` takes what stands in sys.modules under the full name
    # and does not look for the package around it.
    stand_in = ModuleType(_DYNAMO)
    vars(stand_in)["is_compile_supported"] = is_compile_supported
    sys.modules[_DYNAMO] = stand_in
    torch.compiler.disable = late
    try:
        yield
    finally:
        torch.compiler.disable = eager
        if sys.modules.get(_DYNAMO) is stand_in:
            del sys.modules[_DYNAMO]
