"""FROZEN-TUNING without the blocks before the first new part: their features, computed once.

DeRy section 4 keeps all blocks as they are in FROZEN-TUNING. Where images are not augmented anew
in each epoch, what comes out of the blocks before the first stitch is the same in every epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from zoo_search.training.images import InMemory
from zoo_search.training.machine import Machine, channels_last, device_of, is_out_of_memory

_CHUNK = 64
"""Images a pass; the same in every process, since the last bit of a feature depends on it."""


@runtime_checkable
class Divisible(Protocol):
    """A network that can be run in two halves."""

    blocks: nn.ModuleList
    stitches: nn.ModuleList
    head: nn.Module

    def before(self, x: Tensor, blocks: int) -> Tensor:
        """Map normalised images to what the first so many blocks give."""

    def after(self, x: Tensor, blocks: int) -> Tensor:
        """Map that to logits."""


class Rest(nn.Module):
    """A network without its first blocks, whose parameters it does not hold."""

    def __init__(self, net: Divisible, blocks: int) -> None:
        super().__init__()
        self._whole = [net]  # in a list: not a submodule, so that DDP sees what learns alone
        self._blocks = blocks
        self.learning = nn.ModuleList([net.stitches, net.head])

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``[B, …]`` to logits ``[B, classes]``."""
        return self._whole[0].after(x, self._blocks)


def frozen_blocks(net: Divisible) -> int:
    """Return the number of leading blocks that nothing learns before: one or more."""
    for place, stitch in enumerate(net.stitches):
        if any(True for _ in stitch.parameters()):
            return place + 1
    return len(net.stitches) + 1


def features_of(
    net: Divisible,
    blocks: int,
    images: InMemory,
    normalize: Callable[[Tensor], Tensor],
    machine: Machine,
) -> InMemory | None:
    """Return what the first ``blocks`` give for every image, in the place of the images.

    They are on the CPU; None if they are too much for it, or an image for the device.

    ``net`` is in eval mode up to there, so that an image's features do not depend on its
    neighbours but in the last bit.
    """
    held: Tensor | None = None
    labels, device = torch.empty(len(images), dtype=torch.long), device_of(net)
    chunks = [np.arange(i, min(i + _CHUNK, len(images))) for i in range(0, len(images), _CHUNK)]
    with torch.no_grad(), machine.autocast(device):
        for chunk, (x, y) in zip(chunks, images.read(chunks), strict=True):
            machine.beat()
            try:
                features = net.before(channels_last(normalize(x.to(device))), blocks)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    return None
                raise
            if held is None:
                if features[0].nbytes * len(images) > machine.cache_bytes:
                    return None
                held = torch.empty((len(images), *features.shape[1:]), dtype=features.dtype)
                if features.ndim == 4:
                    held = held.contiguous(memory_format=torch.channels_last)
            held[chunk[0] : chunk[-1] + 1], labels[chunk[0] : chunk[-1] + 1] = features.cpu(), y
    assert held is not None
    return InMemory(held, labels, images.groups)
