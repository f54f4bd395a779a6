"""A data set with its splits, and a choice of its images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from zoo_search.data import splits
from zoo_search.data.loading import Skipped, load_images
from zoo_search.data.sources import Reader
from zoo_search.errors import UserError

if TYPE_CHECKING:
    import ray.data
    import torch

__all__ = ["Images", "Split", "Subset", "VisionDataset", "digest_of"]

Split = Literal["train", "test"]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Images:
    """Decoded images.

    Attributes:
        ids: Sample ids.
        images: ``uint8`` [N, 3, H, W], RGB.
        labels: ``int64`` [N].
    """

    ids: list[str]
    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Subset:
    """A choice of images of one split, in a fixed, seeded order that mixes the classes.

    Attributes:
        ids: Sample ids.
        labels: ``int64`` [N], positions in ``classes``.
        classes: Names of the classes.
        fingerprint: Hash of the data set's fingerprint and of the ids in their order.
        skipped: Images of this subset that could not be decoded so far, with the reason.
    """

    ids: list[str]
    labels: Ints
    classes: tuple[str, ...]
    fingerprint: str
    reader: Reader = field(repr=False)
    max_bad: float = 0.01
    skipped: Skipped = field(default_factory=Skipped, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def load(
        self, size: tuple[int, int], interpolation: str = "bicubic", crop_pct: float = 1.0
    ) -> Images:
        """Decode every image in this process, in the order of :attr:`ids`.

        Images that cannot be decoded are left out and named in :attr:`skipped`.

        Args:
            size: Height and width in pixels.
            interpolation: ``nearest``, ``bilinear`` or ``bicubic``.
            crop_pct: Share of the resized image that the centre crop keeps, a side.

        Raises:
            UserError: If more than the share ``max_bad`` of the images cannot be decoded.
        """
        import torch  # here, so that the workers that only decode do not wait for it

        pixels, good = load_images(self, size, interpolation, crop_pct)
        ids = [name for name, ok in zip(self.ids, good, strict=True) if ok]
        return Images(ids, torch.from_numpy(pixels), torch.from_numpy(self.labels[good]))

    def rows(
        self, size: tuple[int, int], interpolation: str = "bicubic", crop_pct: float = 1.0
    ) -> ray.data.Dataset:
        """Return the images as a lazy Ray data set that reads and decodes on the workers.

        Columns ``id`` (string), ``label`` (int64) and ``image`` (uint8 [3, H, W]), with the same
        pixels as :meth:`load`; the order of the rows is free. Joins or starts a cluster through
        :func:`zoo_search.engine.connect`. Arguments as for :meth:`load`; too many undecodable
        images end the run of the data set with a :class:`UserError` inside Ray's own exception.
        """
        from zoo_search.data.rays import rows

        return rows(self, size, interpolation, crop_pct)


@dataclass(frozen=True, eq=False)
class VisionDataset:
    """Labelled images with a training and a test split.

    Attributes:
        name: The name in the configuration.
        classes: Names of the classes; a label is a position here.
        fingerprint: SHA-256 over name, classes, ids, labels, splits and content.
        index: Table ``id: string, label: int32, split: string`` (``train`` or ``test``).
        max_bad: Share of images that may fail to decode.
    """

    name: str
    classes: tuple[str, ...]
    fingerprint: str
    index: pa.Table
    reader: Reader = field(repr=False)
    max_bad: float = 0.01

    def __len__(self) -> int:
        return int(self.index.num_rows)

    def select(
        self,
        split: Split = "train",
        fraction: float | None = None,
        limit: int | None = None,
        seed: int = 0,
    ) -> Subset:
        """Choose images of one split, stratified by class, in a seeded order.

        The choice for a smaller fraction or limit lies within the choice for a larger one.

        Args:
            split: ``train`` or ``test``. Search and similarity take ``train`` only.
            fraction: Share of the split's images, at least one image.
            limit: Most images to take.
            seed: Seed of choice and order.

        Raises:
            UserError: If the split is unknown or has no images.
        """
        if split not in ("train", "test"):
            raise UserError(f"There is no split '{split}'. Allowed: train, test.")
        part = self.index.filter(pa.compute.equal(self.index["split"], split))
        if not part.num_rows:
            raise UserError(
                f"The {split} split of the data set '{self.name}' has no images. Lower "
                "'per_class', or add images."
            )
        ids: list[str] = part["id"].to_pylist()
        labels = part["label"].to_numpy().astype(np.int64)
        total = splits.how_many(len(ids), fraction, limit)
        chosen = splits.choose(labels, splits.ranks(ids, seed, "select"), total)
        names = [ids[i] for i in chosen]
        return Subset(
            ids=names,
            labels=labels[chosen],
            classes=self.classes,
            fingerprint=digest_of([self.fingerprint, *names]),
            reader=self.reader,
            max_bad=self.max_bad,
        )


def digest_of(parts: list[Any]) -> str:
    """Return SHA-256 over the parts, each closed by a byte that no part holds."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(str(part).encode() + b"\0")
    return digest.hexdigest()
