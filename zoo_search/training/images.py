"""Where a training gets its images from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from zoo_search.training.order import Ints, shuffled

Batch = tuple[Tensor, Tensor]
"""Images, uint8 ``[B, 3, H, W]``, and labels, int64 ``[B]``."""


@runtime_checkable
class ImageSource(Protocol):
    """Labelled images by position; what is kept in memory and what is streamed look the same."""

    def __len__(self) -> int:
        """Return the number of images."""

    def order(self, draw: np.random.Generator) -> Ints:
        """Return all positions in a random order that is cheap to read in."""

    def read(
        self, wanted: Sequence[Ints], draw: str | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images, uint8 ``[B, 3, H, W]``, and labels, int64 ``[B]``, of each list in turn.

        In a training ``draw`` names the random numbers of what is done to each image on the way
        (RandAugment). Without, nothing is done, and what is no image has the label -1.
        """


@dataclass(frozen=True, eq=False)
class InMemory:
    """Decoded images, uint8 ``[N, 3, H, W]``, with labels, int64 ``[N]``.

    In their place may stand what frozen blocks gave for them, ``[N, …]`` of floats.
    """

    images: Tensor
    labels: Tensor
    groups: Sequence[Ints] | None = None
    """Positions that stay near each other in an epoch, as where they are streamed."""
    at: Tensor | None = None
    """Which of the images are meant, int64 ``[M]``; None: all."""

    def __len__(self) -> int:
        return len(self.images if self.at is None else self.at)

    def order(self, draw: np.random.Generator) -> Ints:
        """Return a permutation; groups stay together within windows."""
        return shuffled(len(self), draw, self.groups)

    def read(
        self, wanted: Sequence[Ints], draw: str | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images and labels of each list; nothing is done to them here."""
        for positions in wanted:
            index = torch.from_numpy(positions)
            index = index if self.at is None else self.at[index]
            yield self.images[index], self.labels[index]
