"""The labelled images that a word names, as run files name data sets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo_search.config import DatasetConfig, load_job
from zoo_search.core.errors import UserError, nearest, require
from zoo_search.core.files import expanded, is_local
from zoo_search.core.progress import working
from zoo_search.data.opening import list_images, open_dataset
from zoo_search.data.sources import SOURCES
from zoo_search.data.sources.files import FileTree, open_tree
from zoo_search.data.splits import SPLITS

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo_search.data.decode import Range
    from zoo_search.data.selection import Ints
    from zoo_search.data.sources.listing import Listing, Reader

Data = str | os.PathLike[str] | Mapping[str, object] | DatasetConfig
_JOB = {"name": "evaluate", "zoo": {"none": {"arch": "none"}}}
_OF_PATHS = ("folder", "parquet", "webdataset")
"""Sources that read from a path."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images with labels, and where they are from.

    Attributes:
        told: Which images these are, in words.
        labels: Positions in ``classes``, int64 ``[N]``.
        drawn: They are all images of a source whose training images nobody has set apart.
    """

    told: str
    ids: list[str]
    labels: Ints
    classes: tuple[str, ...]
    reader: Reader
    drawn: bool = False


def open_labelled(
    data: Data, split: str | None, value_range: Range | None, changes: Sequence[str] = ()
) -> Labelled:
    """List the images that a word names.

    Args:
        data: A run file (``.yaml``), whose target is meant; the name of a data set (``digits``,
            ``hf:NAME``, …); a folder, a Parquet file or tar shards, by path or URI; or a section
            ``dataset`` of a run file as a mapping.
        split: ``train``, ``validation``, ``test`` or ``all``. Default: of a run file the test of
            the run; of anything else its own test, or all images where it has none.
        value_range: Black and white in deep grey images, where the data set says nothing.
        changes: Laid over the run file (``--set``).

    Raises:
        UserError: If the data set is unknown or missing, or has no such split.
    """
    allowed = (*SPLITS, "all")
    if split is not None:
        require(split, allowed, f"--split {split}: there is no such split.")
    config, seed = _section(data, changes)
    if config.value_range is None and value_range is not None:
        config = config.model_copy(update={"value_range": value_range})
    name = config.name if config.path is None else config.path
    with working("listing the images"):
        if split == "all" or (seed is None and not config.dedupe):
            # What limits a training counts for nothing here.
            every = config.model_copy(update={"per_class": None, "fraction": None, "limit": None})
            listing = list_images(every)
            parts = None if listing.splits is None else np.asarray(listing.splits)
            if split is None:
                split = "test" if parts is not None and "test" in parts else "all"
            if split == "all":
                wanted = np.ones(len(listing.ids), dtype=np.bool_)
                return _of_listing(listing, wanted, f"all images of {name}", drawn=True)
            if parts is not None and split in parts:
                return _of_listing(listing, parts == split, f"the split {split} of {name}")
        split = split or "test"
        dataset = open_dataset(config, seed or 0)
        part = dataset.select(split, seed=seed or 0)  # type: ignore[arg-type]
    told = f"the split {split} of {name}"
    return Labelled(told, part.ids, part.labels, dataset.classes, dataset.reader)


def _of_listing(
    listing: Listing, wanted: npt.NDArray[np.bool_], told: str, *, drawn: bool = False
) -> Labelled:
    ids = [name for name, is_wanted in zip(listing.ids, wanted, strict=True) if is_wanted]
    labels = np.asarray(listing.labels, dtype=np.int64)[wanted]
    return Labelled(told, ids, labels, listing.classes, listing.reader, drawn)


def _section(data: Data, changes: Sequence[str]) -> tuple[DatasetConfig, int | None]:
    """Return the section of a data set; with the seed of its run, if a run file was given."""
    if isinstance(data, DatasetConfig):
        return data, None
    if isinstance(data, Mapping):
        return load_job({**_JOB, "dataset": data}).dataset, None
    word = os.fspath(data)
    if word.endswith((".yaml", ".yml")):
        job = load_job(word, changes)
        return job.dataset, job.seed
    if changes:
        raise UserError(
            f"--set {changes[0]} overrules a value of a run file, and {word} is none. Leave --set "
            "out, or give a run file (.yaml) with --data."
        )
    if _is_name(word):
        return DatasetConfig(name=word), None
    if is_local(word) and not os.path.exists(expanded(word)):  # noqa: PTH110  # likewise
        names = [name for name in SOURCES if name not in _OF_PATHS]
        raise UserError(
            f"--data {word}: there is nothing at this path, and no data set has this name."
            f"{nearest(word, names)} Give a folder with a folder of images for each class, a "
            f"Parquet file, tar shards, a run file (.yaml), or one of {', '.join(names)}."
        )
    return DatasetConfig(name=_kind(word), path=word), None


def _is_name(word: str) -> bool:
    """Say whether a word is the name of a data set, and no path."""
    if word in _OF_PATHS or "://" in word:
        return False
    if ":" in word:  # hf:NAME, module:package.mod:function
        return not os.path.exists(word)  # noqa: PTH110  # Path's raises for names that are too long
    return word in SOURCES


def _kind(path: str) -> str:
    """Return which source reads what lies at a path."""
    if path.endswith(".parquet"):
        return "parquet"
    if path.endswith(".tar"):
        return "webdataset"
    tree = open_tree(DatasetConfig(name="folder", path=path))
    if tree.folders():
        return "folder"
    endings = {name.rpartition(".")[2] for name in _names(tree)}
    return next((kind for kind, end in _BY_ENDING if end in endings), "folder")


_BY_ENDING = (("webdataset", "tar"), ("parquet", "parquet"))


def _names(tree: FileTree) -> list[str]:
    return [name for name, _ in tree.files()]
