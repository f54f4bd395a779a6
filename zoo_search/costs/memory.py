"""Peak activation memory: the bytes of tensors that are alive at once in a forward pass.

A tensor is alive from the operation that makes it to the last one that uses it, as in the memory
plans of inference runtimes (Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net
Inference, 2020). Storages are counted, so that views and work in place cost nothing; weights and
buffers, and what a kernel takes and gives back within itself, do not count. So the figure depends
on the network alone: not on the allocator, and not on which Python frame still holds a tensor.

A reassembled network is a chain with one tensor at each joint. Its peak is therefore exactly the
largest of the peaks of its nodes, stitches and head, each with the tensor that goes into it in the
strides in which it comes: a reshape is free or a copy, as the strides are. Where the head reads
every block, what was pooled of a block is alive beside all that follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo_search.core.imports import dispatch_without_dynamo
from zoo_search.linegraph.graph import Cut, LineGraph
from zoo_search.networks.network import Pool, Tap
from zoo_search.networks.parents import device_of
from zoo_search.networks.recipe import BlockRef, Head, Part, Recipe
from zoo_search.networks.stitch import Stitch

_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Placed:
    """How a tensor lies in its storage: strides and offset, and the storage's size, in elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    elements: int

    @classmethod
    def of(cls, x: Tensor) -> Placed:
        """Return how ``x`` lies."""
        elements = x.untyped_storage().nbytes() // x.element_size()
        return cls(tuple(x.shape), x.stride(), int(x.storage_offset()), elements)

    def zeros(self, device: torch.device) -> Tensor:
        """Return an fp32 tensor of zeros that lies so."""
        flat = torch.zeros(self.elements, device=device)
        return flat.as_strided(self.shape, self.strides, self.offset)


class MemoryTable:
    """Peak activation memory of recipes for one image in fp32, in bytes, without building them.

    Nodes, stitches and heads are run once for each layout that their input comes in.
    """

    def __init__(self, graphs: Mapping[str, LineGraph], num_classes: int) -> None:
        self._graphs = graphs
        self._num_classes = num_classes
        self._node = cache(self._run_node)
        self._join = cache(self._run_stitch)
        self._top = cache(self._run_head)
        self._pool = cache(self._run_tap)

    def peak(self, recipe: Recipe) -> int:
        """Return the peak of a recipe: equal to what the built network has."""
        if recipe.tapped:
            return self._tapped(recipe)
        last = recipe.runs[0]
        peak, placed = self._image(last)
        own, placed = self.block(last, placed)
        peak = max(peak, own)
        for block in recipe.runs[1:]:
            joint, placed = self.joint(last, block, placed)
            own, placed = self.block(block, placed)
            peak, last = max(peak, joint, own), block
        return max(peak, self._top(last.model, last.stop, recipe.head, placed))

    def _tapped(self, recipe: Recipe) -> int:
        """Return the peak of a recipe whose head reads every block."""
        blocks, held = recipe.blocks, 0  # held: bytes of what was pooled so far
        peak, placed = self._image(blocks[0])
        for number, block in enumerate(blocks):
            if number:
                joint, placed = self.joint(blocks[number - 1], block, placed)
                peak = max(peak, held + joint)
            own, placed = self.block(block, placed)
            pooling = self._pool(block.model, block.stop, number < len(blocks) - 1, placed)
            peak = max(peak, held + own, held + pooling)
            held += _FLOAT * self._graphs[block.model].cuts[block.stop].channels
        # All that was pooled goes into one tensor, and that into the logits.
        return max(peak, 2 * held, held + _FLOAT * self._num_classes)

    def block(self, block: BlockRef, placed: Placed) -> tuple[int, Placed]:
        """Return the peak of a block and how its output lies, given how its input lies."""
        peak = 0
        for index in range(block.start, block.stop):
            most, placed = self._node(block.model, index, placed)
            peak = max(peak, most)
        return peak, placed

    def joint(self, before: BlockRef, after: BlockRef, placed: Placed) -> tuple[int, Placed]:
        """Return the same of the stitch between two blocks; nothing for neighbours."""
        if before.precedes(after):
            return 0, placed
        cuts = self._graphs[before.model].cuts, self._graphs[after.model].cuts
        return self._join(bare(cuts[0][before.stop]), bare(cuts[1][after.start]), placed)

    def bounds(self, stages: Sequence[Sequence[BlockRef]]) -> dict[Part, int]:
        """Return the least peaks, in bytes, over all layouts in which tensors can come.

        Of the blocks of a space, and of pairs at a joint: of the stitch and the second block, or of
        the head where the second is an end.
        """
        blocks: dict[Part, int] = {}
        joints: dict[Part, int] = {}
        given: dict[BlockRef, set[Placed]] = {}
        for stage, here in enumerate(stages):
            came: dict[BlockRef, set[Placed]] = {}
            for block in here:
                if block.is_end:
                    blocks[block], came[block] = 0, set()
                    for before, layouts in given.items():
                        tops = [self._top(before.model, before.stop, "target", p) for p in layouts]
                        joints[before, block] = min(tops, default=0)
                    continue
                most: list[int] = []
                outs: set[Placed] = set()
                # A block is run on whatever each block before it may give it. Its least peak over
                # them all bounds it alone; that over one of them, with the stitch, the pair.
                ways: dict[tuple[BlockRef, BlockRef] | None, list[tuple[int, Placed]]] = {
                    (before, block): [self.joint(before, block, placed) for placed in layouts]
                    for before, layouts in given.items()
                    if not before.is_end
                }
                for joint, comes in (ways or {None: [self._image(block)]}).items():
                    peaks = []
                    for peak, placed in comes:
                        own, out = self.block(block, placed)
                        if stage == len(stages) - 1:
                            own = max(own, self._top(block.model, block.stop, "target", out))
                        peaks.append(max(peak, own))
                        most.append(own)
                        outs.add(out)
                    if joint is not None:
                        joints[joint] = min(peaks)
                blocks[block], came[block] = min(most, default=0), outs
            given = came  # all layouts in which the blocks of the next stage may get their input
        return blocks | joints

    def _image(self, first: BlockRef) -> tuple[int, Placed]:
        shape = self._graphs[first.model].cuts[first.start].shape
        placed = Placed.of(torch.empty(1, *shape))
        return _FLOAT * placed.elements, placed

    def _run_node(self, model: str, index: int, placed: Placed) -> tuple[int, Placed]:
        graph = self._graphs[model]
        peak, out = peak_memory(graph.nodes[index].module, placed.zeros(device_of(graph)))
        return peak, Placed.of(out)

    def _run_stitch(self, before: Cut, after: Cut, placed: Placed) -> tuple[int, Placed]:
        peak, out = peak_memory(Stitch(before, after), placed.zeros(torch.device("cpu")))
        return peak, Placed.of(out)

    def _run_head(self, model: str, stop: int, head: Head, placed: Placed) -> int:
        graph, module = self._graphs[model], self._graphs[model].head
        device = device_of(graph)
        if head == "target":
            cut = graph.cuts[stop]
            linear = nn.Linear(cut.channels, self._num_classes, device=device)
            module = nn.Sequential(Pool(cut), linear)
        return peak_memory(module, placed.zeros(device))[0]

    def _run_tap(self, model: str, stop: int, kept: bool, placed: Placed) -> int:
        """Return the peak of pooling what a block gives, in a tensor of its own if that is kept."""
        graph = self._graphs[model]
        module = (Tap if kept else Pool)(graph.cuts[stop])
        return peak_memory(module, placed.zeros(device_of(graph)))[0]


@torch.no_grad()
def peak_memory(module: nn.Module, x: Tensor) -> tuple[int, Tensor]:
    """Return the peak bytes of activations alive in ``module(x)``, and what it gives.

    ``x`` counts from the start to its last use, the output from its making to the end.
    """
    record = _Lifetimes(x)
    with record:
        out: Tensor = module(x)
    return record.peak(out), out


def bare(cut: Cut) -> Cut:
    """Return a cut without its place in its model: what a stitch depends on."""
    return replace(cut, index=0, name="")


@dispatch_without_dynamo
class _Lifetimes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the first and the last operation of every storage that is made in a forward pass."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._clock = 0
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._held: dict[int, Any] = {}  # storages, so that no address is used twice
        self._foreign: set[int] = set()  # weights, buffers, constants
        self._use(given)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self._clock += 1
        for x in tree_leaves((args, kwargs)):
            if isinstance(x, Tensor):
                key = self._key(x)
                # What was never made in this pass was there before it: a weight, not an activation.
                if key not in self._first:
                    self._foreign.add(key)
                self._last[key] = self._clock
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                self._use(x)
        return out

    def peak(self, output: Tensor) -> int:
        """Return the largest sum of bytes alive at one operation."""
        self._use(output)
        # The bytes alive at operation t are the sum of all changes up to t: a storage comes at its
        # first operation, and goes behind its last one, which still reads it.
        change = [0] * (self._clock + 2)
        for key, first in self._first.items():
            if key not in self._foreign:
                size = self._held[key].nbytes()
                change[first] += size
                change[self._last[key] + 1] -= size
        return max(itertools.accumulate(change))

    def _use(self, x: Tensor) -> None:
        key = self._key(x)
        self._first.setdefault(key, self._clock)
        self._last[key] = self._clock

    def _key(self, x: Tensor) -> int:
        # Views share their storage, and so does work in place: both come out as one and the same.
        storage = x.untyped_storage()
        key = int(storage._cdata)
        self._held.setdefault(key, storage)
        return key
