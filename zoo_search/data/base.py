"""A data set with its splits, and a choice of its images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute

from zoo_search.core.errors import UserError, require
from zoo_search.core.identity import digest_of, ranks
from zoo_search.data import splits
from zoo_search.data.loading import load_images
from zoo_search.data.on_ray import rows_of
from zoo_search.data.selection import Ints, Selection
from zoo_search.data.sources.listing import Reader
from zoo_search.data.splits import SPLITS, Split
from zoo_search.data.view import Size, View, as_view

if TYPE_CHECKING:
    import ray.data
    import torch


@dataclass(frozen=True, eq=False)
class Images:
    """Decoded images, ``uint8`` [N, 3, H, W], RGB, with sample ids and labels, ``int64`` [N]."""

    ids: list[str]
    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False, kw_only=True)
class Subset(Selection):
    """A choice of images of one split, in a fixed, seeded order that mixes the classes.

    Attributes:
        classes: Names of the classes; :attr:`labels` are positions here.
        fingerprint: Hash of the data set's fingerprint and of the ids in their order.
    """

    classes: tuple[str, ...]
    fingerprint: str

    def first(self, count: int | None) -> Subset:
        """Return the first so many images, under the same fingerprint; None stands for all."""
        if count is None or count >= len(self):
            return self
        return replace(self, ids=self.ids[:count], labels=self.labels[:count])

    def folds(
        self, count: int, seed: int, wanted: int | None = None
    ) -> list[tuple[Subset, Subset]]:
        """Cut the images into ``count`` stratified parts; return (all but one part, that part)s.

        ``wanted`` of them are made, the first ones; default: all. Images that cannot be decoded are
        counted over all of this selection.

        Every image is in one part, except the only image of a class, which is in none and so stays
        in all trainings. Neither the parts nor a class in them differ by more than one image, and
        a class keeps one image or more outside each part. The parts follow from seed and ids
        alone, whatever the order of the images.

        Raises:
            UserError: If ``count`` is below 2, no class has two images, or the classes that do have
                fewer images than there are to be parts.
        """
        if count < 2:
            raise UserError(
                f"finetune.validation: {count} folds are no cross-validation: each is validated by "
                "a network that was trained on the others. Ask for two folds or more."
            )
        part = splits.deal(self.labels, ranks(self.ids, seed, "fold"), count)
        dealt = int((part >= 0).sum())
        if not dealt:
            raise UserError(
                f"finetune.validation: no class of the {len(self)} training images has two images, "
                "so that none can be held out. Add images, or leave validation out."
            )
        if dealt < count:
            raise UserError(
                f"finetune.validation: {count} folds need {count} images of classes that have two "
                f"or more, and there are {dealt}. Ask for {dealt} folds at most, or add images."
            )
        return [
            (
                self._at(np.flatnonzero(part != i), "left"),
                self._at(np.flatnonzero(part == i), "held out"),
            )
            for i in range(min(count, wanted or count))
        ]

    def _at(self, positions: Ints, what: str) -> Subset:
        ids = [self.ids[i] for i in positions]
        return replace(
            self,
            ids=ids,
            labels=self.labels[positions],
            fingerprint=digest_of([self.fingerprint, what, *ids]),
        )

    def load(
        self, view: View | Size, interpolation: str = "bicubic", crop_pct: float = 1.0
    ) -> Images:
        """Decode every image in this process, in the order of :attr:`ids`.

        Images that cannot be decoded are left out and named in :attr:`skipped`.

        ``view`` says how; or it is height and width alone, and the rest of a view stands beside.

        Raises:
            UserError: If more than the share ``max_bad`` of the images cannot be decoded.
        """
        import torch  # here, so that the workers that only decode do not wait for it

        pixels, good = load_images(self, as_view(view, interpolation, crop_pct))
        ids = [name for name, ok in zip(self.ids, good, strict=True) if ok]
        return Images(ids, torch.from_numpy(pixels), torch.from_numpy(self.labels[good]))

    def rows(
        self, view: View | Size, interpolation: str = "bicubic", crop_pct: float = 1.0
    ) -> ray.data.Dataset:
        """Return the images as a lazy Ray data set that reads and decodes on the workers.

        Columns ``id`` (string), ``label`` (int64) and ``image`` (uint8 [3, H, W]), with the same
        pixels as :meth:`load`; the order of the rows is free. Joins or starts a cluster through
        :func:`zoo_search.cluster.connect`. Arguments as for :meth:`load`; too many undecodable
        images end the run of the data set with a :class:`UserError` inside Ray's own exception.
        """
        return rows_of(self, as_view(view, interpolation, crop_pct))


@dataclass(frozen=True, eq=False)
class VisionDataset:
    """Labelled images with a training and a test split, and perhaps a validation split.

    Attributes:
        classes: Names of the classes; a label is a position here.
        fingerprint: SHA-256 over name, classes, ids, labels, splits and content.
        index: Table ``id: string, label: int32, split: string`` (``train``, ``test``, or
            ``validation`` where the source has one beside its test).
        max_bad: Share of images that may fail to decode.
        sizes: Bytes of each stored image of the index, ``int64``, where they are known.
        dropped: Images that ``dataset.dedupe`` left out, by split.
    """

    name: str
    classes: tuple[str, ...]
    fingerprint: str
    index: pa.Table
    reader: Reader = field(repr=False)
    max_bad: float = 0.01
    sizes: Ints | None = field(default=None, repr=False)
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.index.num_rows)

    def has(self, split: Split) -> bool:
        """Return whether there are images in a split.

        ``validation`` is there only where the source itself has it beside a test split.

        Raises:
            UserError: If the split is unknown.
        """
        require(split, SPLITS, f"There is no split '{split}'.")
        return split in pa.compute.unique(self.index["split"]).to_pylist()

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
            split: ``train``, ``test``, or ``validation`` where there is one (:meth:`has`). Search
                and similarity take ``train`` only.
            fraction: Share of the split's images, at least one image.
            limit: Most images to take.
            seed: Of choice and order.

        Raises:
            UserError: If the split is unknown or has no images.
        """
        if not self.has(split):
            if split == "validation":
                raise UserError(
                    f"The data set '{self.name}' has no validation split beside its test split. "
                    "Let training images be held out (finetune.validation: 0.1), or add such a "
                    "split to its source."
                )
            raise UserError(
                f"The {split} split of the data set '{self.name}' has no images. Lower "
                "'per_class', or add images."
            )
        part = self.index.filter(pa.compute.equal(self.index["split"], split))
        ids: list[str] = part["id"].to_pylist()
        labels = part["label"].to_numpy().astype(np.int64)
        total = splits.how_many(len(ids), fraction, limit)
        chosen = splits.choose(labels, ranks(ids, seed, "select"), total)
        names = [ids[i] for i in chosen]
        return Subset(
            ids=names,
            labels=labels[chosen],
            classes=self.classes,
            fingerprint=digest_of([self.fingerprint, *names]),
            reader=self.reader,
            max_bad=self.max_bad,
        )
