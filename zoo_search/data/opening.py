"""From a configuration to a data set: listing the images and splitting them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow as pa

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError, some
from zoo_search.core.identity import digest_of, ranks
from zoo_search.core.progress import working
from zoo_search.data import splits
from zoo_search.data.base import VisionDataset
from zoo_search.data.checks.duplicates import twins
from zoo_search.data.selection import Ints
from zoo_search.data.sources import SOURCES, Listing
from zoo_search.data.sources.listing import limits_of


def list_images(config: DatasetConfig) -> Listing:
    """List every image of a data set, its labels checked; decodes none.

    A validation split without a test split beside it is the test split.

    Raises:
        UserError: If the data set is unknown, missing, has a split of another name, or a class with
            too few images.
    """
    listing = _known_splits(config, SOURCES.get(config.name, "dataset.name")(config))
    _check_classes(config, listing, np.asarray(listing.labels, dtype=np.int64))
    if limits_of(listing.reader) != (config.max_pixels, config.value_range):
        listing.reader.max_pixels = config.max_pixels
        listing.reader.value_range = config.value_range
    return listing


def _known_splits(config: DatasetConfig, listing: Listing) -> Listing:
    """Return the listing with no validation split but one beside a test split.

    Raises:
        UserError: If an image is in a split of another name.
    """
    found = set(listing.splits or ())
    if strangers := sorted(map(str, found.difference(splits.SPLITS))):
        raise UserError(
            f"dataset '{config.name}': its source lists images of the splits "
            f"{some(strangers, ', ', ' and')}. Allowed are {', '.join(splits.SPLITS)}; let the "
            "source give one of them for each image, or None for all."
        )
    if listing.splits is None or "validation" not in found or "test" in found:
        return listing
    parts = ["test" if part == "validation" else part for part in listing.splits]
    return replace(listing, splits=parts)


def listing_hash(
    config: DatasetConfig, listing: Listing, rows: Iterable[tuple[str, int, str]]
) -> str:
    """Return SHA-256 over name, classes, content, the source's code, and (id, label, split)s."""
    parts: list[object] = [config.name, *listing.classes, listing.content]
    if config.value_range is not None:
        parts.append(["value_range", *config.value_range])
    parts += SOURCES.identity([config.name], "dataset.name").values()
    return digest_of(chain(parts, chain.from_iterable(rows)))


def open_dataset(config: DatasetConfig, seed: int = 0) -> VisionDataset:
    """List a data set's images and split them; decodes nothing.

    A source with held-out images of its own keeps them: they are the whole ``test`` split, and the
    whole ``validation`` split where it has both (validation without a test is the test). Else the
    images are split into ``train`` and ``test`` by class with ``config.seed`` (default: ``seed``):
    ``per_class`` images of each class for training and the rest for the test, or 80 to 20.
    ``per_class``, ``fraction`` and ``limit`` then limit the training split; what they leave out is
    in no split. (Only where ``per_class`` itself makes the split does the rest of a class go to the
    test.) With ``dedupe``, a held-out image that is in an earlier one of train, validation and test
    is in no split.

    Raises:
        UserError: If the data set is unknown, missing, or has a class with too few images.
    """
    listing = list_images(config)
    seed = config.seed if config.seed is not None else seed
    labels = np.asarray(listing.labels, dtype=np.int64)
    split, dropped = _split(config, listing, labels, seed)
    keep = [i for i, part in enumerate(split) if part]
    ids = [listing.ids[i] for i in keep]
    index = pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "label": pa.array(labels[keep], pa.int32()),
            "split": pa.array([split[i] for i in keep], pa.string()),
        }
    )
    made_of = listing_hash(config, listing, ((listing.ids[i], labels[i], split[i]) for i in keep))
    return VisionDataset(
        config.name,
        listing.classes,
        made_of,
        index,
        listing.reader,
        config.max_bad,
        None if listing.sizes is None else np.asarray(listing.sizes)[keep],
        dropped,
    )


def _split(
    config: DatasetConfig, listing: Listing, labels: Ints, seed: int
) -> tuple[list[str], Counter[str]]:
    """Return the split of each image, or an empty string (unused), and what ``dedupe`` left out."""
    rank = ranks(listing.ids, seed, "split")
    if listing.splits is None:
        test = splits.split_off_test(labels, rank, config.per_class)
        result = ["test" if held_out else "" for held_out in test]
    else:
        result = [part if part != "train" else "" for part in listing.splits]
    train = np.flatnonzero([not part for part in result])
    twice = _in_two_splits(listing, result) if config.dedupe else []
    if listing.splits is not None and config.per_class is not None:
        train = train[~splits.split_off_test(labels[train], rank[train], config.per_class)]
    total = splits.how_many(len(train), config.fraction, config.limit)
    train = train[splits.choose(labels[train], rank[train], total)]
    for i in train.tolist():
        result[i] = "train"
    dropped = Counter(result[i] for i in twice)
    for i in twice:
        result[i] = ""
    if dropped["test"] and "test" not in result:
        raise UserError(
            f"dataset.dedupe: each of the {dropped['test']} test images of '{config.name}' is "
            "among the training or validation images as well, so that none would be left. Give a "
            "test of other images."
        )
    return result, dropped


def _in_two_splits(listing: Listing, split: list[str]) -> list[int]:
    """Return the held-out images that are in an earlier split, too, whatever limits the training.

    So the test is the same for each ``limit``.
    """
    parts = [part or "train" for part in split]
    with working("comparing the images of the splits"):
        return list(twins(listing.reader, listing.ids, parts, listing.sizes, every=True).of)


def _check_classes(config: DatasetConfig, listing: Listing, labels: Ints) -> None:
    """Raise if an image has no label, or a class too few training images."""
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(listing.classes):
        raise UserError(
            f"dataset '{config.name}': some images have no label (their labels run from "
            f"{labels.min()} to {labels.max()}, the classes from 0 to {len(listing.classes) - 1}). "
            "Take a data set, or a split of it, in which every image is labelled."
        )
    if listing.splits is not None:
        labels = labels[np.asarray(list(listing.splits)) == "train"]
    counts = np.bincount(labels, minlength=len(listing.classes))
    needed = config.per_class or 1
    classes = zip(listing.classes, counts, strict=True)
    short = [f"'{name}' ({n})" for name, n in classes if n < needed]
    if not short:
        return
    want = f"fewer than per_class: {needed} training images" if config.per_class else "no images"
    cure = "lower dataset.per_class, " if config.per_class else ""
    raise UserError(
        f"dataset '{config.name}': these classes have {want}: {some(short, ', ', ' and')}. "
        f"Add images to them, {cure}or remove the classes."
    )
