"""What is looked up of a folder before a run file for it is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo_search.config import DatasetConfig
from zoo_search.core.byte_names import escaped
from zoo_search.core.errors import UserError
from zoo_search.core.files import expanded, file_system
from zoo_search.core.progress import working
from zoo_search.core.yaml_text import read_yaml
from zoo_search.data import VisionDataset, open_dataset
from zoo_search.data.checks.look import Look, look
from zoo_search.data.checks.told import Told, tell

_OPTION = "--splits"


@dataclass(frozen=True)
class Folder:
    """A folder of images, as the data sets of runs see it.

    Attributes:
        config: The section ``dataset`` that it is read by.
        dataset: Its images.
        told: How many of each class there are, and what is odd with them.
        seen: What a choice of them looks like.
    """

    config: DatasetConfig
    dataset: VisionDataset
    told: Told
    seen: Look

    @property
    def side(self) -> int:
        """The shorter side of the middle one of the images, in pixels."""
        return int(np.median(self.seen.sides.min(axis=1)))

    @property
    def has_own_test(self) -> bool:
        """Whether the test images lie in a folder of their own, and are not drawn."""
        index = self.dataset.index
        at = {"train": set[str](), "test": set[str]()}
        for name, split in zip(index["id"].to_pylist(), index["split"].to_pylist(), strict=True):
            if split in at:
                at[split].add(name.partition("/")[0])
        return at["train"].isdisjoint(at["test"])

    def count(self, split: str) -> int:
        """Return how many images a split has."""
        return sum(self.told.counts.get(split, ()))


def look_up_folder(folder: str, splits: str | None, seed: int, near: Path) -> Folder:
    """List a folder of images, and look at some of them.

    Args:
        folder: A path or URI of a folder that holds a folder for each class.
        splits: As ``dataset.splits`` in a run file.
        seed: Of the run that is drafted.
        near: Where the run file will lie: a relative path is kept beside the working directory.

    Raises:
        UserError: If it is no folder, holds no images, may be read in two ways, or has one class.
    """
    _check_folder(folder)
    said: dict[str, object] = {"name": "folder", "path": path_in_file(folder, near)}
    if splits is not None:
        said["splits"] = read_yaml(splits, _OPTION)[1]
    config = _config(said)
    try:
        with working("images: listing"):
            dataset = open_dataset(config, seed)
    except UserError as error:
        raise UserError(_with_option(str(error))) from None
    if len(dataset.classes) < 2:
        raise UserError(
            f"{folder} has one class alone, '{dataset.classes[0]}', and nothing to tell it from. "
            "Give the folder that holds a folder of images for each class, as in cat/1.png and "
            "dog/1.png."
        )
    with working("looking at the images"):
        seen = look(dataset)
        told = tell(dataset, seen)
    if not len(seen.sides):
        name, reason = next(iter(seen.bad.items()), ("none", "none was small enough to look at"))
        raise UserError(
            f"No image of {folder} can be decoded, of {len(seen.bad)} that were looked at; the "
            f"first is {name} ({reason}). Open some of them elsewhere, and convert them if they "
            "are no PNG, JPEG or the like."
        )
    return Folder(config, dataset, told, seen)


def _check_folder(folder: str) -> None:
    fs, place = file_system(expanded(folder) if "://" not in folder else folder, "FOLDER:")
    if fs.isdir(place):
        return
    found = "is a file, and no folder" if fs.exists(place) else "is not there"
    raise UserError(
        f"{folder} {found}. Give a folder that holds a folder of images for each class, as in "
        "images/pets with images/pets/cat/1.png and images/pets/dog/1.png."
    )


def _config(said: Mapping[str, object]) -> DatasetConfig:
    from zoo_search.config import load_job

    zoo = {"zoo": {"any": {"arch": "any"}}}  # a run file has one; it is not looked at
    return load_job({"name": "any", "dataset": dict(said), **zoo}).dataset


def _with_option(problem: str) -> str:
    """Return a problem with the images in words of this command."""
    if "dataset.splits" in problem:
        problem += (
            f" Before there is a run file, say so with {_OPTION} drawn or {_OPTION} "
            "'{train: NAME, test: NAME}'."
        )
    return problem


def path_in_file(folder: str, near: Path) -> str:
    """Return the path of a folder as a run file at ``near`` has it, as valid text.

    It is relative only where the run file lies in the working directory, from which it counts
    before there is a file.
    """
    if "://" in folder:
        return folder
    path = Path(expanded(folder))
    if Path(expanded(str(near))).resolve().parent != Path.cwd().resolve():
        path = path.resolve()
    text = str(path)
    return escaped(f"./{text}" if text.startswith("~") else text)


def name_of(folder: str) -> str:
    """Return the name of a run for a folder: what of its own may stand in one."""
    last = folder.rstrip("/").rpartition("/")[2]
    last = Path(expanded(folder)).resolve().name if last in ("", ".", "..", "~") else last
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-._")
    return name[:60] or "images"
