"""Where a recorded model is cut: the author's blocks, the stem with the first, the rest as head."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from zoo_search.errors import UserError
from zoo_search.linegraph.blocks import BlockLevel, Segment
from zoo_search.linegraph.graph import Cut, NotACut
from zoo_search.linegraph.layout import LayoutFinder
from zoo_search.linegraph.liveness import Liveness, liveness
from zoo_search.linegraph.recording import Recording
from zoo_search.linegraph.streams import Bundle, bundle_at, bundled

__all__ = ["Plan", "plan"]

_TOO_MUCH = 2 / 3
_ENOUGH = 4


@dataclass(frozen=True)
class Plan:
    """Where to cut: segments up to the features, their output values, and the cuts.

    Attributes:
        recording: What is cut; with the packing of several streams, where there is any.
        segments: One a node.
        values: Number of the value that each segment ends with.
        cuts: One behind each segment.
        refused: Places between blocks that are no cut.
        crowded: The segment that holds most of the author's blocks, if it holds too many.
        why_not: Why this is no line of blocks; empty if it is one.
    """

    recording: Recording
    segments: tuple[Segment, ...]
    values: tuple[int, ...]
    cuts: tuple[Cut, ...]
    refused: tuple[NotACut, ...]
    crowded: bool = False
    why_not: str = ""


def plan(recording: Recording, model: nn.Module, name: str) -> Plan:
    """Choose where to cut a recorded model.

    Cuts stand where a single tensor is alive. Only where that gives no line of blocks, or leaves
    most of them in one node, the streams between blocks are packed into one tensor.

    Args:
        recording: What the model computes.
        model: The model, for the kinds of its modules.
        name: What messages call it.

    Raises:
        UserError: If the model is no line of blocks; it says which tensors stay alive where.
    """
    single = _planned(recording, model, name)
    if not single.why_not and not single.crowded:
        return single
    packed = _packed(recording, model, name)
    if packed is not None and len(packed.segments) > len(single.segments):
        return packed
    if single.why_not:
        raise UserError(single.why_not)
    return single


def _packed(recording: Recording, model: nn.Module, name: str) -> Plan | None:
    """Plan with bundles at the ends of the blocks between which several streams are alive."""
    alive = liveness(recording)
    finder = LayoutFinder(recording)
    positions = {position for _, position in BlockLevel(model, alive).unit_ends()}
    bundles: list[Bundle] = []
    for position in sorted(positions):
        if 0 < position < len(recording.operations) and not alive.is_cut(position):
            bundle = bundle_at(position, alive, finder)
            bundles += [bundle] if bundle is not None else []
    while bundles:
        found = _planned(bundled(recording, bundles), model, name)
        # A bundle that is no cut would lie inside a node, where it only costs time.
        ends = {segment.stop for segment in found.segments}
        used = [b for i, b in enumerate(bundles) if b.position + 2 * i + 1 in ends]
        if len(used) == len(bundles):
            return None if found.why_not or found.crowded else _marked(found, bundles)
        bundles = used
    return None


def _marked(found: Plan, bundles: list[Bundle]) -> Plan:
    """Note on each cut how many streams are packed there."""
    streams = {b.position + 2 * i + 1: len(b.values) for i, b in enumerate(bundles)}
    stops = [segment.stop for segment in found.segments]
    cuts = zip(found.cuts, stops, strict=True)
    return replace(
        found, cuts=tuple(replace(cut, streams=streams.get(stop, 1)) for cut, stop in cuts)
    )


def _planned(recording: Recording, model: nn.Module, name: str) -> Plan:
    """Choose the cuts where one value is alive, and judge whether they make a line of blocks."""
    alive = liveness(recording)
    level = BlockLevel(model, alive)
    found = _cuts(recording, alive, level, name)
    return _judged(found, level, name)


def _cuts(recording: Recording, alive: Liveness, level: BlockLevel, name: str) -> Plan:
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
    return Plan(recording, tuple(kept), tuple(values), tuple(cuts), tuple(refused))


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


def _judged(found: Plan, level: BlockLevel, name: str) -> Plan:
    """Say of a plan whether its blocks lie nearly all in one node or in the head."""
    ends = [position for _, position in level.unit_ends()]
    start, worst, inside = 0, "", 0
    for segment in found.segments:
        number = sum(start < position <= segment.stop for position in ends)
        if number > inside:
            worst, inside = segment.name, number
        start = segment.stop
    in_head = sum(position > start for position in ends)
    crowded = inside >= _ENOUGH and inside > _TOO_MUCH * len(ends)
    few = len(found.segments) < 2 or (len(found.segments) < _ENOUGH and crowded)
    if not few and 2 * in_head <= len(ends):
        return replace(found, crowded=crowded)
    reasons = sorted(found.refused, key=lambda place: "alive" not in place.reason)[:2]
    said = "; ".join(f"after {place.after}, {place.reason}" for place in reasons)
    where = f" ({inside} of {len(ends)} blocks end up in one node, {worst})" if inside > 1 else ""
    if 2 * in_head > len(ends):
        where = f" ({in_head} of {len(ends)} blocks end up in the head)"
    why = (
        f"{name}: no line graph, because it is not a line of blocks{where}: "
        f"{said or 'there is no place between two layers where a single tensor is alive'}. "
        "Choose a model with one stream of features."
    )
    return replace(found, crowded=crowded, why_not=why)
