"""A data set as tar shards that are read at any place: ``zoo-search data pack``."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from zoo_search.config import DatasetConfig, load_job
from zoo_search.core.errors import UserError
from zoo_search.core.files import Place, absolute, gb
from zoo_search.core.progress import progress, working
from zoo_search.data.loading import quiet_pil
from zoo_search.data.opening import list_images, listing_hash
from zoo_search.data.packing import Packing, Settings
from zoo_search.data.sources.shard_index import CLASSES
from zoo_search.data.splits import SPLITS


@dataclass(frozen=True)
class Packed:
    """What a pack holds."""

    dataset: DatasetConfig
    """The section of a run file that opens it."""
    shards: int
    splits: dict[str, int]
    """How many images of each split there are; of ``train`` alone where the source has no other."""
    bytes: int
    kept: int
    """Shards that were there already."""
    bad: dict[str, str]
    """Images that could not be read or decoded, with the reason."""

    @property
    def images(self) -> int:
        """How many images there are."""
        return sum(self.splits.values())

    def __str__(self) -> str:
        section = self.dataset.model_dump(exclude_unset=True)
        text = yaml.safe_dump(section, default_flow_style=True, sort_keys=False, width=2**20)
        parts = ", ".join(f"{count} {split}" for split, count in self.splits.items())
        told = f" ({parts})" if len(self.splits) > 1 else ""
        return (
            f"{self.shards} shards, {self.images} images{told}, {gb(self.bytes)}; "
            f"dataset: {text.strip()}"
        )


def source_of(source: str, name: str | None = None, changes: Sequence[str] = ()) -> DatasetConfig:
    """Return the section ``dataset`` of a run file (``.yaml``), or that of a path or URI.

    Raises:
        UserError: As :func:`zoo_search.config.load_job`, if a run file comes with a name, or if
            there are changes to a run file and none is given.
    """
    if not source.endswith((".yaml", ".yml")):
        if changes:
            raise UserError(
                f"--set {changes[0]} overrules a value of a run file, and {source} is none. Leave "
                "--set out, or give a run file (.yaml) with a section 'dataset'."
            )
        return DatasetConfig(name=name or "folder", path=source)
    if name is not None:
        raise UserError(
            f"--name {name}: {source} is a run file, whose section 'dataset' says what its source "
            "is. Leave --name out, or give the path of the images."
        )
    return load_job(source, changes).dataset


def pack(
    config: DatasetConfig,
    out: Place,
    *,
    shard_mb: float = 256,
    seed: int = 0,
    resize: int | None = None,
) -> Packed:
    """Write every image of a data set as tar shards that the source ``webdataset`` reads.

    Its own test split stays one, as does a validation split beside it; without a test split, all
    are ``train``. ``per_class``, ``fraction`` and ``limit`` play no part here. The same call after
    a kill keeps the shards that are whole.

    Args:
        config: The data set; ``max_bad`` is the share of images that may fail.
        out: An empty or missing folder, a local path or an fsspec URI.
        shard_mb: Most bytes of a shard, in 10^6; a single image may have more.
        seed: Of the order (:func:`zoo_search.data.ahead.shuffled`).
        resize: Shorter side of images that are larger
            (:func:`zoo_search.data.encode.encoded`); by default, bytes stay as they are.

    Raises:
        UserError: If the data set cannot be opened, the folder holds other things or cannot be
            written, too many images are bad, or a class's name has a line break.
    """
    every = config.model_copy(update={"per_class": None, "fraction": None, "limit": None})
    with working("listing the images"):
        listing = list_images(every)
    if any("\n" in name or "\r" in name or not name for name in listing.classes):
        raise UserError(
            f"dataset '{config.name}': the name of a class is empty or has a line break, which "
            f"{CLASSES}, one name a line, cannot hold. Rename it."
        )
    split = listing.splits or ["train"] * len(listing.ids)
    source = listing_hash(config, listing, zip(listing.ids, listing.labels, split, strict=True))
    settings = Settings(source, seed, int(shard_mb * 1e6), resize)
    packing = Packing(out, listing, settings, config.max_bad)
    try:
        if not packing.whole:
            _write(packing, split)
        packing.end()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(
            f"OUT: there is no space left for {os.fspath(out)}. Make room and give the same "
            "command again, it keeps the shards that are whole; --resize makes smaller ones."
        ) from None
    return Packed(
        dataset=DatasetConfig(
            **{
                **config.model_dump(exclude_unset=True, exclude={"splits"}),
                "name": "webdataset",
                "path": absolute(out),
            }
        ),
        shards=len(packing.shards),
        splits=packing.splits,
        bytes=sum(packing.shards.values()),
        kept=packing.kept,
        bad=packing.bad,
    )


def _write(packing: Packing, split: Sequence[str]) -> None:
    """Write the splits; ``split`` is that of each image."""
    names = packing.listing.ids
    with progress("packing", len(names)) as bar, quiet_pil():
        for part in SPLITS:
            ids = [name for name, its in zip(names, split, strict=True) if its == part]
            if ids:
                packing.write_split(part, ids, bar)
