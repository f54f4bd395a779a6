"""Image folders by class, with or without ``train/``, ``val/`` and ``test/`` above the classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data.decode import Raw
from zoo_search.data.sources.files import FileTree, open_tree
from zoo_search.data.sources.folder_splits import Parts, parts_of
from zoo_search.data.sources.listing import Listing, Reader, Unreadable

EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga"),
)
"""Files with other endings are passed over."""


class FolderReader(Reader):
    """Reads files below a folder; the id is the path relative to it."""

    def __init__(self, tree: FileTree) -> None:
        self.tree = tree

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, Raw | Unreadable]]:
        """Yield the bytes of each file."""
        return self.tree.read(ids)


def folder(config: DatasetConfig) -> Listing:
    """List ``path/CLASS/…/image.png``, or ``path/train/CLASS/…`` with held-out folders beside it.

    Which folders are splits: :func:`zoo_search.data.sources.folder_splits.parts_of`. Beside a
    training folder, one for the test is the test split and one for the validation the validation
    split; without a test that one is the test split. Classes are the folders' names, sorted. Ids
    are paths relative to ``path``. Content hash:
    :meth:`zoo_search.data.sources.files.FileTree.content_hash`.

    Raises:
        UserError: If the folder is missing, has no class folders, may be read in two ways, or a
            held-out class has no images or is no class of the training folder.
    """
    tree = open_tree(config)
    parts = parts_of(tree, config, is_image)
    classes = parts["train"][1]
    if not classes:
        raise UserError(
            f"dataset.path: {config.path} has no class folders. Put the images of each class into "
            "a folder of its own: path/cat/1.png, or path/train/cat/1.png and path/val/cat/2.png."
        )
    found: dict[str, int] = {}
    labels: list[int] = []
    splits: list[str] = []
    for split, (prefix, names) in parts.items():
        _check_same(parts, prefix, names)
        for label, name in enumerate(classes):
            images = _images(tree, prefix + name) if name in names else {}
            if split != "train" and name in names and not images:
                raise UserError(
                    f"dataset.path: the class folder {prefix}{name} in {config.path} has no "
                    "images. Add images to it or remove it."
                )
            found |= images
            labels += [label] * len(images)
            splits += [split] * len(images)
    return Listing(
        classes=tuple(classes),
        ids=list(found),
        labels=labels,
        splits=splits if len(parts) > 1 else None,
        content=tree.content_hash(found),
        reader=FolderReader(tree),
        sizes=np.asarray(list(found.values()), np.int64),
    )


def _check_same(parts: Parts, prefix: str, names: list[str]) -> None:
    """Raise :class:`UserError` if a split has classes that the training has not."""
    train, classes = parts["train"]
    strangers = [name for name in names if name not in classes]
    if not strangers:
        return
    other = ""
    if len(strangers) == len(names):
        other = (
            f" Where {train} and {prefix} are classes themselves, and no splits, say "
            "dataset.splits: drawn."
        )
    raise UserError(
        f"dataset.path: {prefix} has class folders that {train} lacks: "
        f"{', '.join(strangers[:5])}. Both need the same classes, spelled alike.{other}"
    )


def is_image(name: str) -> bool:
    """Say whether a file is an image by its ending, and not hidden."""
    return name.lower().endswith(EXTENSIONS) and not name.rpartition("/")[2].startswith(".")


def _images(tree: FileTree, folder: str) -> dict[str, int]:
    """Return size by name of the image files below a class folder."""
    return {name: size for name, size in tree.sizes(folder).items() if is_image(name)}
