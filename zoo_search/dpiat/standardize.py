"""Standardization: any torch module as an ordered list of blocks of layers.

Source: Czyzewski, Nowak, Piechowiak, "Breaking the Architecture Barrier" (DPIAT), section 3.1 and
appendix A.1, Algorithm 1. The paper's algorithm knows modules without children as layers. Here a
module's own parameters are layers too, whether it has children or not (position embeddings, class
tokens, layer scales, the fused projection of ``nn.MultiheadAttention``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from zoo_search.dpiat.layers import Layer, own_layers, refuse_unsupported
from zoo_search.errors import UserError

__all__ = ["Block", "standardize"]

Block = tuple[Layer, ...]
"""The layers of one block, in the order in which their modules were registered."""

_Item = Layer | list[Layer]


@dataclass
class _Seen:
    """What a traversal has met: modules and tensors that are shared count once."""

    modules: set[int] = field(default_factory=set)
    tensors: set[int] = field(default_factory=set)


def standardize(module: nn.Module) -> tuple[Block, ...]:
    """Divide ``module`` into blocks of layers that carry tensors.

    Modules without tensors (activations, pooling, identities) take part in the decisions of the
    algorithm, as in the paper, and are left out of its result: nothing could be matched to them.
    A chain of wrappers around the model (``DataParallel``, ``Sequential(model)``) is taken off.

    Args:
        module: Any torch module, on any device, the meta device included.

    Returns:
        The blocks in order; a layer that stands alone is a block of one.

    Raises:
        UserError: If it is no ``nn.Module``, has no parameters, or has parameters that cannot be
            matched (quantised, integer, complex, lazy).

    Source: appendix A.1, Algorithm 1.
    """
    if not isinstance(module, nn.Module):
        raise UserError(
            f"DPIAT got a {type(module).__name__} where it needs a torch.nn.Module. Pass the "
            "module itself (for a model of a zoo: zoo[name].module)."
        )
    seen = _Seen()
    name, root = _unwrap(module)
    blocks = tuple(
        block
        for item in _divide(root, name, 0, seen)
        if (block := tuple(layer for layer in _layers(item) if layer.tensors))
    )
    if not blocks:
        raise UserError(
            f"DPIAT found no parameters in the {type(module).__name__} it was given. It works on "
            "modules with at least one non-empty floating point weight: check that this is the "
            "model itself, and that it is not quantised or scripted."
        )
    return blocks


def _unwrap(module: nn.Module) -> tuple[str, nn.Module]:
    """The outermost module that has tensors or several children of its own, and its name."""
    path: list[str] = []
    while True:
        refuse_unsupported(module, ".".join(path))
        children = list(module.named_children())
        if len(children) != 1 or any(True for _ in _tensors(module)):
            return ".".join(path), module
        path.append(children[0][0])
        module = children[0][1]


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)


def _divide(module: nn.Module, name: str, depth: int, seen: _Seen) -> list[_Item]:
    """Algorithm 1 on ``module``, which lies ``depth`` levels below the root."""
    refuse_unsupported(module, name)
    seen.modules.add(id(module))
    items: list[_Item] = list(own_layers(module, name, seen.tensors))
    children = [(n, child) for n, child in module.named_children() if id(child) not in seen.modules]
    if not children and not items:
        return [Layer(name, "", {})]
    for child_name, child in children:
        if id(child) in seen.modules:
            continue
        part = _divide(child, f"{name}.{child_name}" if name else child_name, depth + 1, seen)
        flat = [item for item in part if isinstance(item, Layer)]
        if len(flat) < len(part) or sum(layer.is_projection for layer in flat) <= 1:
            items.extend(part)
        else:
            items.append(flat)
    blocks = sum(len(_layers(item)) > 1 for item in items)
    if depth > 0 and blocks < len(items) - blocks:
        return [layer for item in items for layer in _layers(item)]
    return items


def _layers(item: _Item) -> list[Layer]:
    return item if isinstance(item, list) else [item]
