"""From a module to its line graph."""

from __future__ import annotations

import copy

import torch
from torch import nn

from zoo_search.core.errors import UserError, first_line
from zoo_search.linegraph.build import Builder
from zoo_search.linegraph.cost import meta_copy
from zoo_search.linegraph.follow import DoesNotFollowError, follow
from zoo_search.linegraph.graph import Cut, LineGraph, Node
from zoo_search.linegraph.plan import plan
from zoo_search.linegraph.record import record
from zoo_search.linegraph.recording import Recording, Ref

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
    # The nodes take their modules from one copy, so that what the model shares they share.
    model = copy.deepcopy(module).eval()
    builder = Builder(model, recording)
    operations = recording.operations
    image = Cut(0, "image", "nchw", input_size[0], (input_size[1], input_size[2]))
    seen: set[nn.Parameter] = set()
    nodes = []
    start, source = 0, 0
    for index, (segment, _, value) in enumerate(chosen.pieces):
        built = builder.build(start, segment.stop, source, Ref(value))
        new = {p for p in built.parameters() if p not in seen}
        seen |= new
        # A multiplication and an addition are two operations, and one multiply-add.
        macs = sum(op.flops for op in operations[start : segment.stop]) // 2
        if len(recording.values[value].shape) == 2:
            # Features [B, C] are a map of one cell, [B, C, 1, 1]; the head takes them flat again.
            built = nn.Sequential(built, nn.Unflatten(1, (-1, 1, 1)))
        params = sum(parameter.numel() for parameter in new)
        nodes.append(Node(index, segment.name, built, params, macs))
        start, source = segment.stop, value
    head = builder.build(start, len(operations), source, recording.root.output)
    if len(recording.values[source].shape) == 2:
        head = nn.Sequential(nn.Flatten(1), head)
    total = sum(parameter.numel() for parameter in model.parameters())
    return LineGraph(
        name,
        input_size,
        tuple(nodes),
        (image, *(piece.cut for piece in chosen.pieces)),
        head,
        total - sum(node.params for node in nodes),
        sum(op.flops for op in operations[start:]) // 2,
        chosen.refused,
    )


def _recorded(module: nn.Module, input_size: tuple[int, int, int], name: str) -> Recording:
    """Record the model at two batch sizes and dtypes, and merge what it did."""
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    other = torch.float32 if dtype == torch.float64 else torch.float64

    def run(batch: int, kind: torch.dtype) -> Recording:
        images = torch.empty((batch, *input_size), device="meta", dtype=kind)
        model = meta_copy(module)
        return record(model if kind == dtype else model.to(kind), images)

    try:
        first = run(_BATCHES[0], dtype)
        try:
            recording = follow(first, run(_BATCHES[1], other), _BATCHES)
        except Exception:  # a model that fixes its dtype inside; then only the batch size varies
            recording = follow(first, run(_BATCHES[1], dtype), _BATCHES)
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
