"""Activations of zoo models, and of partly assembled networks, on one set of images.

Recipes share cuts and prefixes, so what was computed once is kept, within a limit of bytes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from zoo_search.linegraph.graph import LineGraph
from zoo_search.networks.cache import TensorCache
from zoo_search.networks.parents import Models, Parents, device_of
from zoo_search.networks.recipe import BlockRef, merge
from zoo_search.networks.stitch import Stitch
from zoo_search.networks.stitch_fit import fit_stitch
from zoo_search.networks.target_images import Images, as_input, images_of


class Joint(NamedTuple):
    """A pair of cuts: what model ``before`` gives at ``out`` goes into ``after`` at ``into``."""

    before: str
    out: int
    after: str
    into: int


_BATCH = 64  # images a forward pass
_Key = Joint | tuple[BlockRef | Joint, ...]  # of a fit by itself, or after what stands before it


class StitchKeeper(Protocol):
    """Keeps fitted stitches beyond one process."""

    def get(self, joint: Joint) -> tuple[dict[str, Tensor], float] | None:
        """Return the tensors of a stitch and the R² of its fit, or None."""
        ...

    def put(self, joint: Joint, tensors: dict[str, Tensor], r2: float) -> None:
        """Keep a stitch."""
        ...


class StitchFitter:
    """Fits stitches on one set of images and keeps them, and what they were fitted on.

    The stitch of a pair of cuts brings what one model gives at the first cut near to what the other
    gives at the second, each run on the images by itself: one fit serves every recipe that has
    this joint, whatever stands before it.

    Args:
        zoo: Models by name.
        images: See :func:`zoo_search.networks.target_images.as_input`.
        max_bytes: Limit on the activations kept; the longest unused go first.
        chained: Fit each stitch to what the blocks before it give in the recipe, with their own
            stitches: nearer for one recipe, but shared only by recipes of the same beginning.
        keeper: Where stitches of pairs are looked up before they are fitted, and kept after.
    """

    def __init__(
        self,
        zoo: Models,
        images: Images,
        max_bytes: int = 2**29,
        *,
        chained: bool = False,
        keeper: StitchKeeper | None = None,
    ) -> None:
        self.zoo = Parents(zoo)
        self.images = images
        self.chained = chained
        self.power = 1.0
        self.r2: dict[_Key, float] = {}
        self._keeper = None if chained else keeper
        self._stitches: dict[_Key, Stitch] = {}
        self._cache = TensorCache(max_bytes)
        self._others: dict[float, StitchFitter] = {self.power: self}

    def keeping(self, power: float) -> StitchFitter:
        """Return what fits stitches that keep more of their targets' spread, on the same images.

        See :func:`~zoo_search.networks.spread.keep_spread` for ``power``; 1 is least squares. The
        keeper holds stitches by least squares alone.
        """
        if power not in self._others:
            other = copy.copy(self)
            other.power, other._keeper = power, None
            other.r2, other._stitches = {}, {}
            self._others[power] = other
        return self._others[power]

    def stitch(self, prefix: tuple[BlockRef, ...], after: BlockRef) -> nn.Module:
        """Return the fitted stitch between the last of ``prefix`` and ``after`` (not a copy)."""
        if prefix[-1].precedes(after):
            return nn.Identity()
        runs, joint, key = self._keys(prefix, after)
        if key not in self._stitches:
            before, target = self.zoo[joint.before].graph, self.zoo[joint.after].graph
            stitch = Stitch(before.cuts[joint.out], target.cuts[joint.into])
            stitch.to(device_of(target))
            kept = None if self._keeper is None else self._keeper.get(joint)
            if kept is not None:
                stitch.load_state_dict(kept[0])
                self.r2[key] = kept[1]
            else:
                given = self.prefix(runs) if self.chained else self.own(joint.before, joint.out)
                wanted = self.own(joint.after, joint.into)
                self.r2[key] = fit_stitch(stitch, zip(given, wanted, strict=True), power=self.power)
                if self._keeper is not None:
                    self._keeper.put(joint, stitch.state_dict(), self.r2[key])
            self._stitches[key] = stitch.requires_grad_(True)
        return self._stitches[key]

    def quality(self, prefix: tuple[BlockRef, ...], after: BlockRef) -> float:
        """Return the R² of the stitch that :meth:`stitch` gave, on images held out of its fit."""
        return self.r2[self._keys(prefix, after)[2]]

    def _keys(
        self, prefix: tuple[BlockRef, ...], after: BlockRef
    ) -> tuple[tuple[BlockRef, ...], Joint, _Key]:
        """Return the blocks with neighbours merged, the joint, and what the stitch is kept by."""
        runs = merge(prefix)
        joint = Joint(runs[-1].model, runs[-1].stop, after.model, after.start)
        return runs, joint, (*runs, joint) if self.chained else joint

    def own(self, model: str, cut: int) -> Sequence[Tensor]:
        """Return the activation of a zoo model at a cut, a tensor a batch."""
        return self._cache.get((model, cut), lambda: self._own(model, cut))

    def prefix(self, blocks: tuple[BlockRef, ...]) -> Sequence[Tensor]:
        """Return what the blocks with fitted stitches between them give, a tensor a batch."""
        runs = merge(blocks)
        if len(runs) == 1:
            return self.own(runs[0].model, runs[0].stop)
        return self._cache.get((self.power, *runs), lambda: self._extend(runs[:-1], runs[-1]))

    @torch.no_grad()
    def _own(self, model: str, cut: int) -> list[Tensor]:
        parent = self.zoo[model]
        graph = parent.graph
        if cut == 0:
            x = as_input(images_of(self.images, model), graph.input_size, parent.transform)
            return list(torch.split(x.to(device_of(graph)), _BATCH))
        # On from the latest cut before this one that is still held, at worst from the image.
        start = max((c for c in range(1, cut) if (model, c) in self._cache), default=0)
        return [_through(graph, x, start, cut) for x in self.own(model, start)]

    @torch.no_grad()
    def _extend(self, prefix: tuple[BlockRef, ...], block: BlockRef) -> list[Tensor]:
        stitch, graph = self.stitch(prefix, block), self.zoo[block.model].graph
        return [_through(graph, stitch(x), block.start, block.stop) for x in self.prefix(prefix)]


def _through(graph: LineGraph, x: Tensor, start: int, stop: int) -> Tensor:
    x = x.clone()  # a node may work in place, and x is kept
    for node in graph.nodes[start:stop]:
        x = node(x)
    return x
