"""From a configuration to a data set: listing the images and splitting them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from zoo_search.config import DatasetConfig
from zoo_search.data import splits
from zoo_search.data.base import Ints, VisionDataset, digest_of
from zoo_search.data.sources import Listing, list_source
from zoo_search.errors import UserError

__all__ = ["open_dataset"]


def open_dataset(config: DatasetConfig, seed: int = 0) -> VisionDataset:
    """List a data set's images and split them into ``train`` and ``test``; decodes nothing.

    A source with held-out images of its own keeps them, and they are the whole test split. Else
    the images are split by class with ``config.seed`` (default: ``seed``): ``per_class`` images of
    each class for training and the rest for the test, or 80 to 20. ``per_class``, ``fraction`` and
    ``limit`` then limit the training split; what they leave out is in no split. (Only where
    ``per_class`` itself makes the split does the rest of a class go to the test.)

    Raises:
        UserError: If the data set is unknown, missing, or has a class with too few images.
    """
    listing = list_source(config)
    seed = config.seed if config.seed is not None else seed
    labels = np.asarray(listing.labels, dtype=np.int64)
    _check_classes(config, listing, labels)
    split = _split(config, listing, labels, seed)
    keep = [i for i, part in enumerate(split) if part]
    ids = [listing.ids[i] for i in keep]
    index = pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "label": pa.array(labels[keep], pa.int32()),
            "split": pa.array([split[i] for i in keep], pa.string()),
        }
    )
    parts: list[Any] = [config.name, *listing.classes, listing.content]
    for i in keep:
        parts += (listing.ids[i], labels[i], split[i])
    return VisionDataset(
        config.name, listing.classes, digest_of(parts), index, listing.reader, config.max_bad
    )


def _split(config: DatasetConfig, listing: Listing, labels: Ints, seed: int) -> list[str]:
    """Return ``train``, ``test`` or an empty string (unused) for each image."""
    rank = splits.ranks(listing.ids, seed, "split")
    if listing.splits is None:
        test = splits.split_off_test(labels, rank, config.per_class)
    else:
        test = np.asarray([part == "test" for part in listing.splits], dtype=np.bool_)
    train = np.flatnonzero(~test)
    if listing.splits is not None and config.per_class is not None:
        train = train[~splits.split_off_test(labels[train], rank[train], config.per_class)]
    total = splits.how_many(len(train), config.fraction, config.limit)
    train = train[splits.choose(labels[train], rank[train], total)]
    result = ["test" if held_out else "" for held_out in test]
    for i in train:
        result[i] = "train"
    return result


def _check_classes(config: DatasetConfig, listing: Listing, labels: Ints) -> None:
    """Raise if an image has no label, or a class too few training images."""
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(listing.classes):
        raise UserError(
            f"dataset '{config.name}': some images have no label (their labels run from "
            f"{labels.min()} to {labels.max()}, the classes from 0 to {len(listing.classes) - 1}). "
            "Take a data set, or a split of it, in which every image is labelled."
        )
    if listing.splits is not None:
        labels = labels[np.asarray(listing.splits) == "train"]
    counts = np.bincount(labels, minlength=len(listing.classes))
    needed = config.per_class or 1
    short = [(name, n) for name, n in zip(listing.classes, counts, strict=True) if n < needed]
    if not short:
        return
    named = ", ".join(f"'{name}' ({n})" for name, n in short[:5])
    more = f" and {len(short) - 5} more" if len(short) > 5 else ""
    want = f"fewer than per_class: {needed} training images" if config.per_class else "no images"
    cure = "lower dataset.per_class, " if config.per_class else ""
    raise UserError(
        f"dataset '{config.name}': these classes have {want}: {named}{more}. "
        f"Add images to them, {cure}or remove the classes."
    )
