"""Standardization: any torch module as an ordered list of blocks of layers (DPIAT, section 3.1).

The paper's Algorithm 1 knows modules without children as layers. Here a module's own parameters
are layers too, whether it has children or not (position embeddings, class tokens, layer scales,
the fused projection of ``nn.MultiheadAttention``).
"""

from __future__ import annotations

import itertools

from torch import nn

from zoo_search.core.errors import UserError
from zoo_search.dpiat.layers import Layer, own_layers, refuse_unsupported

Block = tuple[Layer, ...]
"""The layers of one block, in the order in which their modules were registered."""

_Item = Layer | list[Layer]


def standardize(module: nn.Module) -> tuple[Block, ...]:
    """Divide ``module`` into blocks of layers that carry tensors.

    Modules without tensors (activations, pooling, identities) take part in the decisions of the
    algorithm, as in the paper, and are left out of its result: nothing could be matched to them.
    A chain of wrappers around the model (``DataParallel``, ``Sequential(model)``) is taken off.

    The device may be the meta device. A layer that stands alone is a block of one.

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
    name, root = _unwrap(module)
    blocks = tuple(
        block
        for item in _divide(root, name, 0, set())
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
        own = itertools.chain(module.parameters(recurse=False), module.buffers(recurse=False))
        if len(children) != 1 or any(True for _ in own):
            return ".".join(path), module
        path.append(children[0][0])
        module = children[0][1]


def _divide(module: nn.Module, name: str, depth: int, seen: set[int]) -> list[_Item]:
    """Algorithm 1 on ``module``, which lies ``depth`` levels below the root.

    ``seen`` holds the ids of modules and tensors that were met: those that are shared count once.
    """
    refuse_unsupported(module, name)
    seen.add(id(module))
    items: list[_Item] = list(own_layers(module, name, seen))
    children = [(n, child) for n, child in module.named_children() if id(child) not in seen]
    if not children and not items:
        return [Layer(name, "", {})]
    for child_name, child in children:
        if id(child) in seen:
            continue
        # A child that holds blocks hands them up, and one with at most one convolutional or linear
        # layer its layers; the layers of any other child are a block.
        part = _divide(child, f"{name}.{child_name}" if name else child_name, depth + 1, seen)
        flat = [item for item in part if isinstance(item, Layer)]
        if len(flat) < len(part) or sum(layer.is_projection for layer in flat) <= 1:
            items.extend(part)
        else:
            items.append(flat)
    # Where there are more single layers than blocks, the module is one run of layers; whether that
    # is a block is decided one level above.
    blocks = sum(len(_layers(item)) > 1 for item in items)
    if depth > 0 and blocks < len(items) - blocks:
        return [layer for item in items for layer in _layers(item)]
    return items


def _layers(item: _Item) -> list[Layer]:
    return item if isinstance(item, list) else [item]
