"""The author's block level: which valid cuts end one of the model's own blocks.

From the root down, a module is *opened* if it merely holds blocks: a Sequential, a ModuleList, a
ModuleDict, or a stage. The first module on the way down that is not opened is the *unit* of an
operation. Cuts stand where the unit changes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from torch import nn

from zoo_search.linegraph.liveness import Liveness
from zoo_search.linegraph.recording import refs_in

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Segment:
    """The operations ``[start, stop)`` between two neighbouring cuts.

    Attributes:
        name: Path of the author's module that it ends with.
        weighty: Whether it uses a weight of two or more dimensions.
        is_block: Whether it holds one of the author's blocks.
        also: Other places where it could end, with operations without weights in between.
    """

    start: int
    stop: int
    name: str
    weighty: bool
    is_block: bool
    also: tuple[int, ...] = ()

    def joined(self, other: Segment) -> Segment:
        """Return this segment followed by ``other``; the block among the two gives the name."""
        # A block before what has weights before what has none; of two blocks the later one.
        mine, others = (self.is_block, self.weighty), (other.is_block, other.weighty)
        keep_mine = mine >= others and not (self.is_block and other.is_block)
        return Segment(
            self.start,
            other.stop,
            self.name if keep_mine else other.name,
            self.weighty or other.weighty,
            self.is_block or other.is_block,
            other.also,
        )


class BlockLevel:
    """Finds the units of a recorded model and the segments between its block-level cuts."""

    def __init__(self, model: nn.Module, alive: Liveness) -> None:
        self._modules = dict(model.named_modules(remove_duplicate=False))
        self._alive = alive
        self._operations = alive.recording.operations
        self._weights = _weights(model, alive)
        # From the first operation inside a module to the last: it may be called more than once.
        self._span: dict[str, tuple[int, int]] = {}
        for operation in self._operations:
            for path in operation.ancestry:
                start, _ = self._span.get(path, (operation.index, 0))
                self._span[path] = (start, operation.index + 1)
        self._cut = [alive.is_cut(p) for p in range(len(self._operations) + 1)]
        self._opened: dict[str, bool] = {}
        # The unit of each operation: the first module on the way down that is not opened.
        self._units = [
            next((path for path in operation.ancestry if not self._is_opened(path)), None)
            for operation in self._operations
        ]

    def branches(self, path: str) -> bool:
        """Whether the module at ``path`` starts and ends at cuts with none right through inside."""
        start, stop = self._span.get(path, (0, 0))
        return not all(self._cut[p] for p in range(start + 1, stop))

    def unit_ends(self) -> list[tuple[str, int]]:
        """Return ``(path, position)`` for the end of every unit that is a block."""
        paths = dict.fromkeys(unit for unit in self._units if unit and self._is_block(unit))
        return [(path, self._span[path][1]) for path in paths]

    def segments(self, extra: int | None) -> list[Segment]:
        """Cut the model where the unit changes, and at position ``extra`` if that is a cut."""
        last = len(self._operations)
        inner = [
            p
            for p in range(1, last)
            if self._cut[p] and (p == extra or self._units[p - 1] != self._units[p])
        ]
        found = [self._segment(*ends) for ends in pairwise([0, *inner, last])]
        # A plain chain of layers (VGG) has no blocks of its author: each layer with weights is one.
        if not any(segment.is_block for segment in found):
            found = [replace(segment, is_block=segment.weighty) for segment in found]
        return self._without_weightless(found, extra)

    def _is_opened(self, path: str) -> bool:
        """Whether the module at ``path`` merely holds blocks."""
        if path not in self._opened:
            module = self._modules.get(path)
            self._opened[path] = (
                path == ""
                or isinstance(module, _CONTAINERS)
                or (module is not None and self._is_stage(path, module))
            )
        return self._opened[path]

    def _is_stage(self, path: str, module: nn.Module) -> bool:
        """Whether a module that is no container has blocks inside, with a cut at an edge."""
        # Blocks are looked for among the children of each container, and, where the module adds no
        # parameters of its own, among its own children of one kind, if that is the majority.
        children = [(f"{path}.{name}", child) for name, child in module.named_children()]
        groups = [
            [(f"{child_path}.{name}", grandchild) for name, grandchild in child.named_children()]
            for child_path, child in children
            if isinstance(child, _CONTAINERS)
        ]
        if next(module.parameters(recurse=False), None) is None:
            kinds = Counter(
                type(child) for _, child in children if any(True for _ in child.parameters())
            )
            groups += [
                [(p, child) for p, child in children if type(child) is kind]
                for kind, many in kinds.items()
                if many >= 2 and 2 * many > kinds.total()
            ]
        return any(self._is_group(path, group) for group in groups)

    def _is_group(self, path: str, group: list[tuple[str, nn.Module]]) -> bool:
        """Whether at least half of the members branch and one of those ends at an inner cut."""
        # A group of branches that run side by side branches as well, but none of them starts or
        # ends where one tensor is alive: the whole is one block then, and no stage.
        start, stop = self._span.get(path, (0, 0))
        members = [p for p, module in group if _has_children(module) and p in self._span]
        branching = [p for p in members if self.branches(p)]
        if not branching or 2 * len(branching) < len(members):
            return False
        edges = [edge for p in branching for edge in self._span[p]]
        return any(start < edge < stop and self._cut[edge] for edge in edges)

    def _is_block(self, unit: str) -> bool:
        """Whether a unit is one of the author's blocks and not part of the stem or the head."""
        module = self._modules.get(unit)
        if module is None or not _has_children(module):
            return False
        holders = [path for path in _path_to(unit) if path != unit]
        return self.branches(unit) or any(self.branches(path) for path in holders)

    def _segment(self, start: int, stop: int) -> Segment:
        """Describe the operations ``[start, stop)``."""
        units = list(dict.fromkeys(self._units[start:stop]))
        blocks = [unit for unit in units if unit and self._is_block(unit)]
        last = self._operations[stop - 1].module if stop > start else ""
        unit = next((u for u in (*reversed(blocks), *reversed(units)) if u), last)
        name = next((p for p in _path_to(unit) if self._covers(p, start, stop)), unit)
        return Segment(start, stop, name, self._is_weighty(start, stop), bool(blocks))

    def _covers(self, path: str, start: int, stop: int) -> bool:
        """Whether the module at ``path`` lies in ``[start, stop)`` and holds several units."""
        first, last = self._span.get(path, (-1, 0))
        return start <= first and last <= stop and len(set(self._units[first:last])) > 1

    def _is_weighty(self, start: int, stop: int) -> bool:
        """Whether an operation multiplies by a weight of two or more dimensions."""
        return any(
            number in self._weights
            for operation in self._operations[start:stop]
            if operation.from_image and operation.flops
            for number in operation.inputs
        )

    def _without_weightless(self, segments: list[Segment], extra: int | None) -> list[Segment]:
        """Join segments without weights to the one before in the same parent, or else the next."""
        # ``pending`` waits for the next segment with weights. Where a segment could end in several
        # places, since only operations without weights lie between, ``also`` keeps the others:
        # the plan takes the first that has a layout. Nothing is joined across ``extra``, where the
        # author's own forward_features ends.
        kept: list[Segment] = []
        pending: Segment | None = None
        for segment in segments:
            if pending is not None:
                segment, pending = pending.joined(segment), None
            if segment.weighty:
                kept.append(segment)
            elif kept and kept[-1].stop != extra and self._goes_back(kept[-1], segment):
                before = kept[-1]
                kept[-1] = replace(before.joined(segment), also=(before.stop, *before.also))
            elif segment.stop == extra:
                kept.append(segment)
            else:
                pending = segment
                if kept:
                    kept[-1] = replace(kept[-1], also=(*kept[-1].also, segment.stop))
        if pending is not None:
            kept.append(pending)
        return kept

    def _goes_back(self, before: Segment, segment: Segment) -> bool:
        """Whether a weightless segment belongs to the same parent as the one before it."""
        # An operation of no unit stands in the code of the innermost module around it, a unit is
        # called by its parent: this is the module that has to hold what came before, too.
        path = self._operations[segment.start].module
        last = self._operations[before.stop - 1].module
        unit = self._units[segment.start]
        parent = path if unit is None else path.rpartition(".")[0]
        return parent != "" and f"{last}.".startswith(f"{parent}.")


def _weights(model: nn.Module, alive: Liveness) -> set[int]:
    """Return the values that are weights of two or more dimensions, or computed from such."""
    matrices = {n for n, p in model.named_parameters(remove_duplicate=False) if p.dim() >= 2}
    found = {value.index for value in alive.recording.values if value.leaf in matrices}
    # Weights that are standardised, or put together from parts, before they are used.
    for operation in alive.recording.operations:
        if not operation.from_image and not found.isdisjoint(operation.inputs):
            found.update(refs_in(operation.output))
    return found


def _path_to(unit: str) -> list[str]:
    """Return the paths from the first module down to a unit: ``["a", "a.b"]``."""
    return list(accumulate(unit.split("."), "{}.{}".format))


def _has_children(module: nn.Module) -> bool:
    """Whether a module has modules with parameters inside."""
    return any(True for child in module.children() for _ in child.parameters())
