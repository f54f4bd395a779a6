"""Checkpoints of other classes than the architecture's, or without a head.

The zoo wants the features, and networks for the target get a new head: so the number of classes is
the file's, and a network without a head is as good as one with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from zoo_search.core.errors import UserError
from zoo_search.zoo.build import is_timm
from zoo_search.zoo.checkpoint import is_counter

CLASSES = "num_classes"
"""timm's and torchvision's argument for the number of classes."""

Other = tuple[nn.Module, dict[str, Any], str]
"""A network with another head, the arguments that build it, and what is to be said of it."""


def other_heads(
    own: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    arch: str,
    kwargs: Mapping[str, Any],
    make: Callable[[Mapping[str, Any]], nn.Module],
) -> Iterator[Other]:
    """Yield the network with as many classes as a file has, then without a head.

    Whether the file fits them is not looked at yet. Where the run file itself says the number of
    classes there is no other.

    Args:
        own: The state of the network as the run file has it.
        found: The file's tensors, by the network's names.
        arch: The architecture.
        kwargs: Its arguments in the run file.
        make: Builds the architecture with other arguments.
    """
    if CLASSES in kwargs:
        return
    lacking = [key for key in own if key not in found and not is_counter(key)]
    unequal = [key for key in own if key in found and found[key].shape != own[key].shape]
    # Of several (a table of relative positions has a first dimension, too) the classifier is last.
    numbers = [len(found[key]) for key in unequal if _only_first(own[key], found[key])]
    if numbers:
        asked = {**kwargs, CLASSES: numbers[-1]}
        with contextlib.suppress(UserError):  # a factory may take no number of classes
            yield make(asked), asked, f"{numbers[-1]} classes, as in the file"
    if not lacking and not unequal:
        return
    said = "without a head: the file has none that fits"
    if is_timm(arch):
        asked = {**kwargs, CLASSES: 0}
        yield make(asked), asked, said
    else:
        module = make(kwargs)
        if _behead(module, {*lacking, *unequal}):
            yield module, dict(kwargs), said


def _only_first(a: Tensor, b: Tensor) -> bool:
    return a.ndim == b.ndim > 0 and a.shape[1:] == b.shape[1:]


def _behead(module: nn.Module, keys: set[str]) -> bool:
    """Replace the linear layers at the end of a network; say whether just these hold ``keys``."""
    holders = [(name, part) for name, part in module.named_modules() if _tensors_of(name, part)]
    head = set()
    while holders and keys & _tensors_of(*holders[-1]):
        name, part = holders.pop()
        if not isinstance(part, nn.Linear) or not name:
            return False
        head |= _tensors_of(name, part)
        module.set_submodule(name, nn.Identity())
    return head == keys


def _tensors_of(name: str, part: nn.Module) -> set[str]:
    """Return the names of a module's own parameters, its children's aside."""
    before = f"{name}." if name else ""
    return {before + key for key, _ in part.named_parameters(recurse=False)}
