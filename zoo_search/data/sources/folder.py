"""Image folders by class, with or without ``train/`` and ``val/`` above the classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from zoo_search.config import DatasetConfig
from zoo_search.data.decode import Raw
from zoo_search.data.sources import files
from zoo_search.data.sources.listing import Listing, Unreadable, chunks
from zoo_search.errors import UserError

__all__ = ["EXTENSIONS", "FolderReader", "folder"]

EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga"),
)
"""Files with other endings are passed over."""


class FolderReader:
    """Reads files below a folder; the id is the path relative to it."""

    in_memory = False

    def __init__(self, fs: Any, root: str) -> None:
        self.fs, self.root = fs, root

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, Raw | Unreadable]]:
        """Yield the bytes of each file."""
        return files.read_files(self.fs, self.root, ids)

    def groups(self, ids: Sequence[str]) -> list[list[str]]:
        """Cut into chunks: any file is as near as any other."""
        return chunks(ids)


def folder(config: DatasetConfig) -> Listing:
    """List ``path/CLASS/…/image.png``, or ``path/train/CLASS/…`` with a held-out folder beside it.

    Beside ``train/`` the first of ``test``, ``val``, ``valid``, ``validation`` that has class
    folders is the test split; the others are not used. Classes are the folders' names, sorted. Ids
    are paths relative to ``path``. Content hash:
    :func:`zoo_search.data.sources.files.content_hash`.

    Raises:
        UserError: If the folder is missing, has no class folders, or a held-out class has no
            images or is no class of the training folder.
    """
    fs, root = files.open_root(files.require_path(config))
    parts = _parts(fs, root)
    classes = parts["train"][1]
    if not classes:
        raise UserError(
            f"dataset.path: {config.path} has no class folders. Put the images of each class into "
            "a folder of its own: path/cat/1.png, or path/train/cat/1.png and path/val/cat/2.png."
        )
    found: dict[str, int] = {}
    labels: list[int] = []
    split: list[str] = []
    for part, (prefix, names) in parts.items():
        _check_known(prefix, names, classes)
        for label, name in enumerate(classes):
            images = _images(fs, root, f"{prefix}{name}") if name in names else {}
            if part == "test" and name in names and not images:
                raise UserError(
                    f"dataset.path: the class folder {prefix}{name} in {config.path} has no "
                    "images. Add images to it or remove it."
                )
            found.update(images)
            labels += [label] * len(images)
            split += [part] * len(images)
    return Listing(
        classes=tuple(classes),
        ids=list(found),
        labels=labels,
        splits=split if "test" in parts else None,
        content=files.content_hash(fs, root, found),
        reader=FolderReader(fs, root),
    )


def _parts(fs: Any, root: str) -> dict[str, tuple[str, list[str]]]:
    """Return ``train`` (and ``test`` if there is one) to (prefix of its classes, their names)."""
    top = _folders(fs, root)
    train = _folders(fs, f"{root}/train") if "train" in top else []
    if not train:
        return {"train": ("", top)}
    parts = {"train": ("train/", train)}
    for name in files.HELD_OUT:
        held_out = _folders(fs, f"{root}/{name}") if name in top else []
        if held_out:
            return parts | {"test": (f"{name}/", held_out)}
    return parts


def _folders(fs: Any, path: str) -> list[str]:
    """Return the names of the folders in a folder, sorted, hidden ones left out."""
    entries = fs.ls(path, detail=True)
    names = {e["name"].rstrip("/").rsplit("/", 1)[-1] for e in entries if e["type"] == "directory"}
    return sorted(n for n in names if n and not n.startswith((".", "__MACOSX")))


def _images(fs: Any, root: str, folder: str) -> dict[str, int]:
    """Return size by path relative to ``root`` of the image files below a class folder."""
    inside = files.sizes(fs, f"{root}/{folder}")
    return {
        f"{folder}/{name}": size
        for name, size in inside.items()
        if name.lower().endswith(EXTENSIONS) and not name.rsplit("/", 1)[-1].startswith(".")
    }


def _check_known(prefix: str, names: list[str], classes: list[str]) -> None:
    strangers = [name for name in names if name not in classes]
    if strangers:
        raise UserError(
            f"dataset.path: {prefix} has class folders that train/ lacks: "
            f"{', '.join(strangers[:5])}. Both need the same classes."
        )
