"""Images by the words that a user gives: files, folders and patterns, here or on other storage."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from zoo_search.core.byte_names import escaped
from zoo_search.core.errors import UserError, first_line
from zoo_search.core.files import Place, file_system, is_local
from zoo_search.core.redaction import redacted
from zoo_search.data.decode import Raw
from zoo_search.data.sources.files import FileTree
from zoo_search.data.sources.folder import EXTENSIONS, is_image
from zoo_search.data.sources.listing import Reader, Unreadable

_TOGETHER = 32
_SIGNS = "*?["
_GIVE = "Give image files, folders of them, or patterns such as 'photos/*.jpg'."


@dataclass(eq=False)
class PathReader(Reader):
    """Reads files of any folders; ids are the names that they were found under."""

    files: dict[str, tuple[FileTree, str]]
    """By id: a folder, and the file's name in it."""

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, Raw | Unreadable]]:
        """Yield the bytes of each file."""
        trees: dict[FileTree, dict[str, str]] = defaultdict(dict)
        for name in ids:
            tree, inside = self.files[name]
            trees[tree][inside] = name
        for tree, names in trees.items():
            for inside, data in tree.read(list(names)):
                yield names[inside], data

    def groups(self, ids: Sequence[str]) -> list[list[str]]:
        """Cut the ids into lists that a thread reads."""
        return [list(ids[i : i + _TOGETHER]) for i in range(0, len(ids), _TOGETHER)]


def find_images(given: Sequence[Place]) -> PathReader:
    """Find the images that words name, each once, in the order of the words.

    A file is taken whatever it is called. Of a folder all images are taken, at any depth, sorted,
    and of a pattern what it matches: files with the ending of an image, and folders. Nothing is
    opened.

    Raises:
        UserError: If a word names nothing, or no images.
    """
    found: dict[str, tuple[FileTree, str]] = {}
    there = set[tuple[str, str]]()
    for each in given:
        named = _here(os.fspath(each)) if is_local(each) else _elsewhere(os.fspath(each))
        for name, (tree, inside) in named.items():
            key = str(tree.fs.protocol), tree.path(inside)
            if key not in there:  # under whichever name it came first
                there.add(key)
                found[name] = tree, inside
    if not found:
        raise UserError(f"No images are given. {_GIVE}")
    return PathReader(found)


def _here(word: str) -> dict[str, tuple[FileTree, str]]:
    path = os.path.expanduser(word.removeprefix("file://"))  # noqa: PTH111  # of any bytes
    fs = LocalFileSystem()
    if os.path.lexists(path):
        return _at(fs, os.path.abspath(path), word, path, os.path.isdir(path))  # noqa: PTH100, PTH112
    if not any(sign in path for sign in _SIGNS):
        raise UserError(f"There is nothing at {escaped(word)}. {_GIVE}")
    found: dict[str, tuple[FileTree, str]] = {}
    for match in sorted(glob.glob(path, recursive=True)):  # noqa: PTH207
        is_folder = os.path.isdir(match)  # noqa: PTH112
        if is_folder or is_image(match):
            found |= _at(fs, os.path.abspath(match), word, match, is_folder, some=True)  # noqa: PTH100
    return found or _refuse(word)


def _elsewhere(word: str) -> dict[str, tuple[FileTree, str]]:
    fs, root = file_system(word, "The images")
    try:
        if any(sign in root for sign in _SIGNS) and not fs.exists(root):
            found: dict[str, tuple[FileTree, str]] = {}
            for match in sorted(map(str, fs.glob(root))):
                is_folder = bool(fs.isdir(match))
                if is_folder or is_image(match):
                    name = redacted(fs.unstrip_protocol(match))
                    found |= _at(fs, match, word, name, is_folder, some=True)
            return found or _refuse(word)
        there, is_folder = bool(fs.exists(root)), bool(fs.isdir(root))
        if there:
            return _at(fs, root, word, redacted(word), is_folder)
    except UserError:
        raise
    except Exception as error:  # each storage raises errors of its own
        raise UserError(
            f"{word} cannot be reached ({type(error).__name__}: {first_line(error)}). Check the "
            "network and the credentials that this storage needs."
        ) from error
    raise UserError(f"There is nothing at {word}. {_GIVE}")


def _at(
    fs: AbstractFileSystem, path: str, word: str, name: str, is_folder: bool, *, some: bool = False
) -> dict[str, tuple[FileTree, str]]:
    """Return a file, or the images below a folder; with ``some``, these may be none."""
    if not is_folder:
        folder, _, base = path.rpartition("/")
        return {escaped(name): (FileTree(fs, folder), escaped(base))}
    tree = FileTree(fs, path.rstrip("/"))
    prefix = escaped(name).rstrip("/")
    found = {f"{prefix}/{inside}": (tree, inside) for inside in tree.sizes() if is_image(inside)}
    return found if found or some else _refuse(word)


def _refuse(word: str) -> dict[str, tuple[FileTree, str]]:
    raise UserError(
        f"There are no images at {escaped(word)}: of a folder or a pattern, files that end in "
        f"{', '.join(EXTENSIONS)} are taken, in any case. {_GIVE}"
    )
