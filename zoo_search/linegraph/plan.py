"""Where a recorded model is cut: the author's blocks, the stem with the first, the rest as head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import nn

from zoo_search.core.errors import UserError
from zoo_search.linegraph.blocks import BlockLevel, Segment
from zoo_search.linegraph.graph import Cut, NotACut
from zoo_search.linegraph.layout import LayoutFinder
from zoo_search.linegraph.liveness import Liveness, liveness
from zoo_search.linegraph.recording import Recording
from zoo_search.linegraph.streams import Bundle, bundle_at, bundled

_TOO_MUCH = 2 / 3
_ENOUGH = 4


class Piece(NamedTuple):
    """What becomes a node: its operations, the cut behind it, and the value that stands there."""

    segment: Segment
    cut: Cut
    value: int


@dataclass(frozen=True)
class Plan:
    """Where to cut.

    Attributes:
        recording: What is cut; with the packing of several streams, where there is any.
        pieces: One a node, up to the features.
        refused: Places between blocks that are no cut.
        crowded: Whether one node holds too many of the author's blocks.
        why_not: Why this is no line of blocks; empty if it is one.
    """

    recording: Recording
    pieces: tuple[Piece, ...]
    refused: tuple[NotACut, ...]
    crowded: bool = False
    why_not: str = ""


def plan(recording: Recording, model: nn.Module, name: str) -> Plan:
    """Choose where to cut a recorded model.

    Cuts stand where a single tensor is alive. Only where that gives no line of blocks, or leaves
    most of them in one node, the streams between blocks are packed into one tensor.

    Raises:
        UserError: If the model is no line of blocks; it says which tensors stay alive where.
    """
    single = _planned(recording, model, name)
    if not single.why_not and not single.crowded:
        return single
    packed = _packed(recording, model, name)
    if packed is not None and len(packed.pieces) > len(single.pieces):
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
        # A bundle that is no cut would lie inside a node, where it only costs time. The i-th bundle
        # has two operations, pack and unpack, and 2 i stand before it: its cut is between the two.
        ends = {piece.segment.stop for piece in found.pieces}
        at = {b.position + 2 * i + 1: b for i, b in enumerate(bundles)}
        if at.keys() <= ends:
            if found.why_not or found.crowded:
                return None
            streams = {stop: len(bundle.values) for stop, bundle in at.items()}
            pieces = (
                Piece(s, replace(cut, streams=streams.get(s.stop, 1)), value)
                for s, cut, value in found.pieces
            )
            return replace(found, pieces=tuple(pieces))
        bundles = [bundle for stop, bundle in at.items() if stop in ends]
    return None


def _planned(recording: Recording, model: nn.Module, name: str) -> Plan:
    """Choose the cuts where one value is alive, and judge whether they make a line of blocks.

    The author's blocks make the nodes, the stem goes with the first, what follows is the head.
    """
    alive, finder = liveness(recording), LayoutFinder(recording)
    level = BlockLevel(model, alive)
    segments = level.segments(recording.features_at)
    blocks = [i for i, segment in enumerate(segments) if segment.is_block]
    if not blocks:
        raise UserError(f"{name}: no line graph, because it has no layer with weights.")
    last = _last(segments, blocks[-1], alive, finder)
    refused: list[NotACut] = []
    kept: list[Piece] = []
    pending: Segment | None = None
    for i, segment in enumerate(segments[: last + 1]):
        # A segment that ends at no cut is carried on into the next one. So is the stem, into the
        # first block, and what lies between the last block and the end of the features.
        joined = segment if pending is None else pending.joined(segment)
        pending = joined
        if i < blocks[0] or (blocks[-1] <= i < last):
            continue
        for stop in (segment.stop, *segment.also):
            value = alive.sole_at(stop)
            cut = None if value is None else finder.cut(len(kept) + 1, joined.name, value)
            if cut is not None and value is not None:
                kept.append(Piece(replace(joined, stop=stop), cut, value))
                pending = None
                break
        if pending is not None:
            value, why = alive.sole_at(segment.stop), alive.why_not(segment.stop)
            if value is not None:
                why = (
                    f"a tensor of shape {recording.values[value].size} is neither a feature map "
                    "nor tokens on a known grid"
                )
            refused.append(NotACut(joined.name, why))
    if pending is not None:
        late = _late_features(pending, alive, finder, len(kept) + 1)
        kept += [late] if late is not None else []
    ends = {piece.segment.stop for piece in kept}
    for path, position in level.unit_ends():
        if position not in ends and not alive.is_cut(position):
            refused.append(NotACut(path, alive.why_not(position)))
    return _judged(Plan(recording, tuple(kept), tuple(refused)), level, name)


def _late_features(
    segment: Segment, alive: Liveness, finder: LayoutFinder, index: int
) -> Piece | None:
    """Find the features behind the last block where several streams meet only there.

    A vector ``[B, C]``, such as joined class tokens, counts as a map with a grid of one cell.
    """
    for stop in range(segment.stop, len(alive.recording.operations)):
        value = alive.sole_at(stop)
        if value is None:
            continue
        shape = alive.recording.values[value].shape
        cut = finder.cut(index, segment.name, value)
        if len(shape) == 2:
            cut = Cut(index, segment.name, "nchw", shape[1], (1, 1))
        if cut is not None:
            return Piece(replace(segment, stop=stop), cut, value)
    return None


def _last(segments: list[Segment], last_block: int, alive: Liveness, finder: LayoutFinder) -> int:
    """Return the index of the segment that ends with the features."""
    for i in range(last_block, len(segments)):
        value = alive.sole_at(segments[i].stop)
        if segments[i].stop == alive.recording.features_at and value is not None:
            return i if finder.cut(0, "", value) is not None else last_block
    return last_block


def _judged(found: Plan, level: BlockLevel, name: str) -> Plan:
    """Say of a plan whether its blocks lie nearly all in one node or in the head."""
    ends = [position for _, position in level.unit_ends()]
    start, worst, inside = 0, "", 0
    for segment, _, _ in found.pieces:
        number = sum(start < position <= segment.stop for position in ends)
        if number > inside:
            worst, inside = segment.name, number
        start = segment.stop
    in_head = sum(position > start for position in ends)
    # A node that holds more than two thirds of the blocks leaves little to reassemble; it is borne
    # where there are enough nodes besides. More than half of the blocks in the head is not.
    crowded = inside >= _ENOUGH and inside > _TOO_MUCH * len(ends)
    few = len(found.pieces) < 2 or (len(found.pieces) < _ENOUGH and crowded)
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
