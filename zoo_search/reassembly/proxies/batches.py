"""The batches that proxies look at: drawn by seed, without duplicate images in a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo_search.core.errors import UserError
from zoo_search.networks.cache import TensorCache
from zoo_search.networks.network import ReassembledNet
from zoo_search.networks.parents import Parent
from zoo_search.networks.target_images import Images, as_input, images_of


@dataclass(eq=False)
class Batches:
    """Draws batches of target images for any network; the same ones for all.

    Two equal images in a batch would make NASWOT's kernel singular, so images are told apart by
    their bytes and each batch holds different ones.

    Raises:
        UserError: If there are fewer than ``size`` different images.
    """

    images: Images  # uint8 (raw) or float (normalised) ``[N, C, H, W]``, or one such tensor a model
    labels: Tensor | None = None  # ``[N]`` class indices, for the proxies that need them
    number: int = 5  # batches a score (DeRy section 4: 5)
    size: int = 32  # images a batch (DeRy section 4: 32)
    seed: int = 0  # of the draw
    # Lets networks with a common prefix share its computation. Only for networks whose equal
    # prefixes have equal weights, as those of one scorer do.
    cache: TensorCache | None = None
    # For the proxies that need the head of the last block's model.
    zoo: Mapping[str, Parent] | None = None

    def __post_init__(self) -> None:
        images = self.images
        first = images if isinstance(images, Tensor) else next(iter(images.values()))
        self.distinct = _distinct(first)  # the index of the first of each group of equal images
        self._drawn: dict[tuple[int, int], np.ndarray] = {}
        if len(self.distinct) < self.size:
            raise UserError(
                f"Proxies look at batches of {self.size} different images, but the target's "
                f"training set holds only {len(self.distinct)} ({len(first)} with duplicates). "
                "Lower 'search.batch_size', or give more images."
            )

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.number))

    def indices(self, batch: int, attempt: int = 0) -> np.ndarray:
        """Return which images are in batch number ``batch``; another ``attempt`` draws anew."""
        if (batch, attempt) not in self._drawn:
            rng = np.random.default_rng([self.seed, batch, attempt])
            self._drawn[batch, attempt] = rng.choice(self.distinct, self.size, replace=False)
        return self._drawn[batch, attempt]

    def for_net(self, net: ReassembledNet, chosen: np.ndarray | None = None) -> Tensor:
        """Return images (default: all different ones) as ``net`` takes them, on its device."""
        chosen = self.distinct if chosen is None else chosen
        x = images_of(self.images, net.recipe.blocks[0].model)[torch.from_numpy(chosen)]
        device = next(net.parameters()).device
        return as_input(x, net.input_size, net.transform).to(device)

    def labels_of(self, chosen: np.ndarray | None = None) -> Tensor:
        """Return the labels of images (default: all different ones).

        Raises:
            ValueError: If there are no labels.
        """
        if self.labels is None:
            raise ValueError("this proxy needs labels, and the target images have none")
        return self.labels[torch.from_numpy(self.distinct if chosen is None else chosen)]


def _distinct(images: Tensor) -> np.ndarray:
    """Return the index of the first of each group of equal images."""
    seen: dict[bytes, int] = {}
    for index, image in enumerate(images):
        digest = hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=16).digest()
        seen.setdefault(digest, index)
    return np.fromiter(seen.values(), dtype=np.int64)
