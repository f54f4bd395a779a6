"""From a module to its line graph."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from zoo_search.errors import UserError, first_line
from zoo_search.linegraph.build import Builder, Built
from zoo_search.linegraph.cost import meta_copy
from zoo_search.linegraph.follow import DoesNotFollowError, follow
from zoo_search.linegraph.graph import Cut, LineGraph, Node
from zoo_search.linegraph.plan import plan
from zoo_search.linegraph.record import record
from zoo_search.linegraph.recording import Recording, Ref

__all__ = ["trace"]

_BATCHES = (2, 3)


def trace(
    module: nn.Module, input_size: tuple[int, int, int] = (3, 224, 224), name: str = ""
) -> LineGraph:
    """Turn a model into its line graph; the model is left as it is.

    The model runs on meta tensors, so that this takes about a second whatever its size. Nodes are
    in eval mode, on the device and in the dtype of ``module``, and share nothing with it.

    Args:
        module: Any module that takes one image batch ``[B, C, H, W]``.
        input_size: ``(C, H, W)`` of the images.
        name: What to call the model in the graph and in messages; default: its class.

    Raises:
        UserError: If the model cannot run at this size, computes outside torch functions, or has
            no places where a single tensor is alive (it says which tensors stay alive where).
    """
    name = name or type(module).__name__
    chosen = plan(_recorded(module, input_size, name), module, name)
    recording = chosen.recording
    model = copy.deepcopy(module).eval()
    builder = Builder(model, recording)
    operations = recording.operations
    image = Cut(0, "image", "nchw", input_size[0], (input_size[1], input_size[2]))
    seen: set[int] = set()
    nodes = []
    start, source = 0, 0
    for index, (segment, value) in enumerate(zip(chosen.segments, chosen.values, strict=True)):
        built = builder.build(start, segment.stop, source, Ref(value))
        macs = sum(op.flops for op in operations[start : segment.stop]) // 2
        if len(recording.values[value].shape) == 2:
            built = replace(built, module=nn.Sequential(built.module, nn.Unflatten(1, (-1, 1, 1))))
        nodes.append(Node(index, segment.name, built.module, _new_params(built, seen), macs))
        start, source = segment.stop, value
    head = builder.build(start, len(operations), source, recording.root.output)
    if len(recording.values[source].shape) == 2:
        head = replace(head, module=nn.Sequential(nn.Flatten(1), head.module))
    params = sum(parameter.numel() for parameter in model.parameters())
    return LineGraph(
        name,
        input_size,
        tuple(nodes),
        (image, *chosen.cuts),
        head.module,
        params - sum(node.params for node in nodes),
        sum(op.flops for op in operations[start:]) // 2,
        chosen.refused,
    )


def _recorded(module: nn.Module, input_size: tuple[int, int, int], name: str) -> Recording:
    """Record the model at two batch sizes and dtypes, and merge what it did."""
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    other = torch.float32 if dtype == torch.float64 else torch.float64
    try:
        first = record(meta_copy(module), _images(_BATCHES[0], input_size, dtype))
        try:
            second = record(meta_copy(module).to(other), _images(_BATCHES[1], input_size, other))
            recording = follow(first, second, _BATCHES)
        except Exception:  # a model that fixes its dtype inside; then only the batch size varies
            second = record(meta_copy(module), _images(_BATCHES[1], input_size, dtype))
            recording = follow(first, second, _BATCHES)
    except DoesNotFollowError as error:
        raise UserError(
            f"{name}: no line graph, because what the model computes depends on the batch size "
            f"({error})."
        ) from error
    except Exception as error:
        raise UserError(
            f"{name}: no line graph, because the model does not run on meta tensors with images "
            f"of size {input_size}: {type(error).__name__}: {first_line(error)}. Give the "
            "input size that the model was built for."
        ) from error
    lost = [value.leaf[1:] for value in recording.values if value.leaf and value.leaf[0] == "?"]
    if lost:
        raise UserError(
            f"{name}: no line graph, because in {lost[0] or 'the model itself'} it uses a tensor "
            "that no torch function made (a scripted or custom autograd function); write that "
            "part with torch functions."
        )
    return recording


def _images(batch: int, input_size: tuple[int, int, int], dtype: torch.dtype) -> torch.Tensor:
    """Return a batch of images on the meta device."""
    return torch.empty((batch, *input_size), device="meta", dtype=dtype)


def _new_params(built: Built, seen: set[int]) -> int:
    """Count the parameters of ``built`` that no earlier node has, and remember them."""
    new = [p for p in built.parameters if id(p) not in seen]
    seen.update(id(p) for p in new)
    return sum(p.numel() for p in new)
