"""Activations of zoo models, and of partly assembled networks, on one set of images.

Recipes share cuts and prefixes, so what was computed once is kept, within a limit of bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_search.linegraph.graph import LineGraph
from zoo_search.reassembly.cache import TensorCache
from zoo_search.reassembly.fit import fit_stitch
from zoo_search.reassembly.recipe import BlockRef, HasGraph, graph_of, merge
from zoo_search.reassembly.stitch import Stitch

__all__ = [
    "Images",
    "Joint",
    "StitchFitter",
    "StitchKeeper",
    "device_of",
    "images_of",
    "prepare",
]

Images = Tensor | Mapping[str, Tensor]
"""Images ``[N, C, H, W]`` for all models, or one such tensor a model (same images, same order)."""


class Joint(NamedTuple):
    """A pair of cuts: what model ``before`` gives at ``out`` goes into ``after`` at ``into``."""

    before: str
    out: int
    after: str
    into: int


def images_of(images: Images, model: str) -> Tensor:
    """Return the images for a model, by its name."""
    return images if isinstance(images, Tensor) else images[model]


def prepare(x: Tensor, input_size: tuple[int, int, int], transform: Any = None) -> Tensor:
    """Return what a network takes for images ``x`` ``[N, C, H, W]``.

    uint8 images are raw: they are brought to ``input_size`` ``(C, H, W)`` and normalised by
    ``transform.normalize`` (divided by 255 where there is none). Float images are taken as
    normalised already and are only resized.
    """
    raw = x.dtype == torch.uint8
    if tuple(x.shape[-2:]) != tuple(input_size[1:]):
        x = F.interpolate(x.float(), size=input_size[1:], mode="bilinear", antialias=True)
        x = x.round().clamp(0, 255).to(torch.uint8) if raw else x
    if raw:
        x = transform.normalize(x) if transform is not None else x.float() / 255
    return x


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
        images: See :func:`prepare`.
        batch_size: Images a forward pass.
        max_bytes: Limit on the activations kept; the longest unused go first.
        chained: Fit each stitch to what the blocks before it give in the recipe, with their own
            stitches: nearer for one recipe, but shared only by recipes of the same beginning.
        keeper: Where stitches of pairs are looked up before they are fitted, and kept after.
    """

    def __init__(
        self,
        zoo: Mapping[str, LineGraph | HasGraph],
        images: Images,
        batch_size: int = 64,
        max_bytes: int = 2**29,
        *,
        chained: bool = False,
        keeper: StitchKeeper | None = None,
    ) -> None:
        self.zoo = zoo
        self.images = images
        self.batch_size = batch_size
        self.chained = chained
        self.r2: dict[tuple[Any, ...], float] = {}
        self._keeper = None if chained else keeper
        self._stitches: dict[tuple[Any, ...], Stitch] = {}
        self._cache = TensorCache(max_bytes)

    def stitch(self, prefix: tuple[BlockRef, ...], after: BlockRef) -> nn.Module:
        """Return the fitted stitch between the last of ``prefix`` and ``after`` (not a copy)."""
        if prefix[-1].precedes(after):
            return nn.Identity()
        runs, joint, key = self._keys(prefix, after)
        if key not in self._stitches:
            before, target = graph_of(self.zoo[joint.before]), graph_of(self.zoo[joint.after])
            stitch = Stitch(before.cuts[joint.out], target.cuts[joint.into])
            stitch.to(device_of(target))
            if not self._recall(joint, stitch, key):
                given = self.prefix(runs) if self.chained else self.own(joint.before, joint.out)
                wanted = self.own(joint.after, joint.into)
                self.r2[key] = fit_stitch(stitch, zip(given, wanted, strict=True))
                if self._keeper is not None:
                    self._keeper.put(joint, stitch.state_dict(), self.r2[key])
            self._stitches[key] = stitch.requires_grad_(True)
        return self._stitches[key]

    def quality(self, prefix: tuple[BlockRef, ...], after: BlockRef) -> float:
        """Return the R² of the stitch that :meth:`stitch` gave, on images held out of its fit."""
        return self.r2[self._keys(prefix, after)[2]]

    def _keys(
        self, prefix: tuple[BlockRef, ...], after: BlockRef
    ) -> tuple[tuple[BlockRef, ...], Joint, tuple[Any, ...]]:
        """Return the blocks with neighbours merged, the joint, and what the stitch is kept by."""
        runs = merge(prefix)
        joint = Joint(runs[-1].model, runs[-1].stop, after.model, after.start)
        return runs, joint, (*runs, joint) if self.chained else joint

    def _recall(self, joint: Joint, stitch: Stitch, key: tuple[Any, ...]) -> bool:
        """Fill a stitch with what the keeper has; say whether it has it."""
        found = None if self._keeper is None else self._keeper.get(joint)
        if found is None:
            return False
        stitch.load_state_dict(found[0])
        self.r2[key] = found[1]
        return True

    def own(self, model: str, cut: int) -> Sequence[Tensor]:
        """Return the activation of a zoo model at a cut, a tensor a batch."""
        return self._cache.get((model, cut), lambda: self._own(model, cut))

    def prefix(self, blocks: tuple[BlockRef, ...]) -> Sequence[Tensor]:
        """Return what the blocks with fitted stitches between them give, a tensor a batch."""
        runs = merge(blocks)
        if len(runs) == 1:
            return self.own(runs[0].model, runs[0].stop)
        return self._cache.get(runs, lambda: self._extend(runs[:-1], runs[-1]))

    @torch.no_grad()
    def _own(self, model: str, cut: int) -> list[Tensor]:
        graph = graph_of(self.zoo[model])
        if cut == 0:
            transform = getattr(self.zoo[model], "transform", None)
            x = prepare(images_of(self.images, model), graph.input_size, transform)
            return list(torch.split(x.to(device_of(graph)), self.batch_size))
        start = max((c for c in range(1, cut) if (model, c) in self._cache), default=0)
        return [_through(graph, x, start, cut) for x in self.own(model, start)]

    @torch.no_grad()
    def _extend(self, prefix: tuple[BlockRef, ...], block: BlockRef) -> list[Tensor]:
        stitch, graph = self.stitch(prefix, block), graph_of(self.zoo[block.model])
        return [_through(graph, stitch(x), block.start, block.stop) for x in self.prefix(prefix)]


def device_of(graph: LineGraph) -> torch.device:
    """Return the device that a line graph's parameters are on."""
    for node in graph:
        for parameter in node.module.parameters():
            return parameter.device
    return torch.device("cpu")


def _through(graph: LineGraph, x: Tensor, start: int, stop: int) -> Tensor:
    x = x.clone()  # a node may work in place, and x is kept
    for node in graph.nodes[start:stop]:
        x = node(x)
    return x
