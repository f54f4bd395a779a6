"""From a module to its line graph."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import nn

from zoo_search.errors import UserError
from zoo_search.linegraph.blocks import BlockLevel, Segment
from zoo_search.linegraph.build import Builder, Built
from zoo_search.linegraph.cost import meta_copy
from zoo_search.linegraph.follow import DoesNotFollowError, follow
from zoo_search.linegraph.graph import Cut, LineGraph, Node, NotACut
from zoo_search.linegraph.layout import LayoutFinder
from zoo_search.linegraph.liveness import Liveness, liveness
from zoo_search.linegraph.record import record
from zoo_search.linegraph.recording import Recording, Ref

__all__ = ["trace"]

_BATCHES = (2, 3)
_TOO_MUCH = 2 / 3
_ENOUGH = 4


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
    recording = _recorded(module, input_size, name)
    alive = liveness(recording)
    level = BlockLevel(module, alive)
    plan = _plan(recording, alive, level, name)
    _refuse_if_no_line(plan, level, name)
    model = copy.deepcopy(module).eval()
    builder = Builder(model, recording)
    operations = recording.operations
    image = Cut(0, "image", "nchw", input_size[0], (input_size[1], input_size[2]))
    seen: set[int] = set()
    nodes = []
    start, source = 0, 0
    for index, (segment, value) in enumerate(zip(plan.segments, plan.values, strict=True)):
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
        (image, *plan.cuts),
        head.module,
        params - sum(node.params for node in nodes),
        sum(op.flops for op in operations[start:]) // 2,
        plan.refused,
    )


@dataclass(frozen=True)
class _Plan:
    """Where to cut: segments up to the features, their output values, and the cuts."""

    segments: tuple[Segment, ...]
    values: tuple[int, ...]
    cuts: tuple[Cut, ...]
    refused: tuple[NotACut, ...]


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
        first_line = next(iter(str(error).splitlines()), "")
        raise UserError(
            f"{name}: no line graph, because the model does not run on meta tensors with images "
            f"of size {input_size}: {type(error).__name__}: {first_line}. Give the input size "
            "that the model was built for."
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


def _plan(recording: Recording, alive: Liveness, level: BlockLevel, name: str) -> _Plan:
    """Choose the cuts: the author's blocks, the stem with the first, what follows in the head."""
    finder = LayoutFinder(recording)
    segments = level.segments(recording.features_at)
    blocks = [i for i, segment in enumerate(segments) if segment.is_block]
    if not blocks:
        raise UserError(f"{name}: no line graph, because it has no layer with weights.")
    last = _last(segments, blocks[-1], recording, alive, finder)
    refused: list[NotACut] = []
    kept: list[Segment] = []
    cuts: list[Cut] = []
    values: list[int] = []
    pending: Segment | None = None
    for i, segment in enumerate(segments[: last + 1]):
        joined = segment if pending is None else pending.joined(segment)
        pending = joined
        if i < blocks[0] or (blocks[-1] <= i < last):
            continue
        for stop in (segment.stop, *segment.also):
            value = _value_at(stop, alive)
            cut = None if value is None else finder.cut(len(kept) + 1, joined.name, value)
            if cut is not None:
                joined = replace(joined, stop=stop)
                break
        if cut is None or value is None:
            value = _value_at(segment.stop, alive)
            why = alive.why_not(segment.stop) if value is None else _no_layout(recording, value)
            refused.append(NotACut(joined.name, why))
            continue
        kept.append(joined)
        cuts.append(cut)
        values.append(value)
        pending = None
    if pending is not None:
        late = _late_features(pending, recording, alive, finder, len(kept) + 1)
        if late is not None:
            kept.append(late[0])
            cuts.append(late[1])
            values.append(late[2])
    ends = {segment.stop for segment in kept}
    for path, position in level.unit_ends():
        if position not in ends and not alive.is_cut(position):
            refused.append(NotACut(path, alive.why_not(position)))
    return _Plan(tuple(kept), tuple(values), tuple(cuts), tuple(refused))


def _late_features(
    segment: Segment, recording: Recording, alive: Liveness, finder: LayoutFinder, index: int
) -> tuple[Segment, Cut, int] | None:
    """Find the features behind the last block where several streams meet only there.

    A vector ``[B, C]``, such as joined class tokens, counts as a map with a grid of one cell.
    """
    for stop in range(segment.stop, len(recording.operations)):
        value = _value_at(stop, alive)
        if value is None:
            continue
        shape = recording.values[value].shape
        cut = finder.cut(index, segment.name, value)
        if len(shape) == 2:
            cut = Cut(index, segment.name, "nchw", shape[1], (1, 1))
        if cut is not None:
            return replace(segment, stop=stop), cut, value
    return None


def _last(
    segments: list[Segment],
    last_block: int,
    recording: Recording,
    alive: Liveness,
    finder: LayoutFinder,
) -> int:
    """Return the index of the segment that ends with the features."""
    for i in range(last_block, len(segments)):
        value = _value_at(segments[i].stop, alive)
        if segments[i].stop == recording.features_at and value is not None:
            return i if finder.cut(0, "", value) is not None else last_block
    return last_block


def _value_at(position: int, alive: Liveness) -> int | None:
    """Return the only value alive at ``position``, if there is just one."""
    return alive.alive(position)[0].index if alive.is_cut(position) else None


def _no_layout(recording: Recording, value: int) -> str:
    """Say that the shape of a value is neither a map nor tokens on a known grid."""
    shape = "×".join(str(size) for size in recording.values[value].shape[1:])
    return f"a tensor of shape {shape} is neither a feature map nor tokens on a known grid"


def _refuse_if_no_line(plan: _Plan, level: BlockLevel, name: str) -> None:
    """Raise for models without an inner cut, or whose blocks lie nearly all in a node or head."""
    ends = [position for _, position in level.unit_ends()]
    start, worst, inside = 0, "", 0
    for segment in plan.segments:
        number = sum(start < position <= segment.stop for position in ends)
        if number > inside:
            worst, inside = segment.name, number
        start = segment.stop
    in_head = sum(position > start for position in ends)
    crowded = inside >= _ENOUGH and inside > _TOO_MUCH * len(ends)
    few = len(plan.segments) < 2 or (len(plan.segments) < _ENOUGH and crowded)
    if not few and 2 * in_head <= len(ends):
        return
    reasons = sorted(plan.refused, key=lambda place: "alive" not in place.reason)[:2]
    said = "; ".join(f"after {place.after}, {place.reason}" for place in reasons)
    where = f" ({inside} of {len(ends)} blocks end up in one node, {worst})" if inside > 1 else ""
    if 2 * in_head > len(ends):
        where = f" ({in_head} of {len(ends)} blocks end up in the head)"
    raise UserError(
        f"{name}: no line graph, because it is not a line of blocks{where}: "
        f"{said or 'there is no place between two layers where a single tensor is alive'}. "
        "Choose a model with one stream of features."
    )


def _new_params(built: Built, seen: set[int]) -> int:
    """Count the parameters of ``built`` that no earlier node has, and remember them."""
    new = [p for p in built.parameters if id(p) not in seen]
    seen.update(id(p) for p in new)
    return sum(p.numel() for p in new)
