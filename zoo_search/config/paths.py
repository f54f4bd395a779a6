"""Paths in a run file: the same place from every working directory, and on every machine.

A relative path counts from the folder of the run file, one that was typed as a value of ``--set``
from the working directory. They are made absolute once, when the file is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator

from zoo_search.core.files import expanded


class ResolvedPath(str):
    """An option with a local path in it, made absolute.

    Attributes:
        given: As it was written, which is what people are shown.
        place: The path in it.
        is_relative: Whether the path was written as a relative one.
    """

    given: str
    place: Path
    is_relative: bool

    def __new__(
        cls, text: str, given: str = "", place: Path | None = None, *, is_relative: bool = False
    ) -> ResolvedPath:
        """Make one of a text; by default it was written as it is."""
        made = super().__new__(cls, text)
        made.given, made.place, made.is_relative = given or text, place or Path(text), is_relative
        return made


class Typed(str):
    """A text that was typed on a command line."""


def as_given(option: str) -> str:
    """Return an option as it was written."""
    return option.given if isinstance(option, ResolvedPath) else option


def typed(value: object) -> object:
    """Return what a command line said, with its texts marked as typed."""
    if isinstance(value, str):
        return Typed(value)
    if isinstance(value, dict):
        return {key: typed(inner) for key, inner in value.items()}
    return [typed(inner) for inner in value] if isinstance(value, list) else value


@dataclass
class Folders:
    """Where relative paths count from; the context in which a run file is validated.

    Attributes:
        name: Of the run file, for people.
        beside: Its folder; None: there is no file, and all count from the working directory.
        notes: What is to be told of paths that have been found.
    """

    name: str
    beside: Path | None = None
    notes: dict[str, None] = field(default_factory=dict)

    def place(self, path: str, *, is_typed: bool) -> Path:
        """Return the absolute path; nothing need be there.

        What is not beside the run file, but in the working directory, is taken from there, as it
        was before paths counted from the file.
        """
        found = Path(expanded(path))
        if found.is_absolute():
            return found
        here = Path.cwd() / found
        if is_typed or self.beside is None:
            return here
        beside = self.beside / found
        if _same(here, beside) or not _exists(here):
            return beside
        there = os.path.relpath(here, self.beside)
        if _exists(beside):
            self.notes[
                f"{self.name}: '{path}' is taken from the folder of the run file, {beside}; there "
                f"is another one in the working directory. Write '{there}' if that is meant."
            ] = None
            return beside
        self.notes[
            f"{self.name}: '{path}' is taken from the working directory, {here}: beside the run "
            f"file, where relative paths count from, there is none. Write '{there}', then it is "
            "found from everywhere."
        ] = None
        return here


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110  # Path's raises for names that are too long


def _same(one: Path, other: Path) -> bool:
    try:
        return one == other or one.samefile(other)
    except (OSError, ValueError):
        return False


_Parts = tuple[str, str, str]
"""What stands before a local path, the path, and what stands behind it."""


def _option(parts_of: Callable[[str], _Parts | None]) -> WrapValidator:
    def resolve(value: object, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> str:
        text: str = check(value)
        folders, parts = info.context, parts_of(text)
        if not isinstance(folders, Folders) or parts is None:
            return text
        before, path, behind = parts
        place = folders.place(path, is_typed=isinstance(value, Typed))
        is_relative = not Path(expanded(path)).is_absolute()
        return ResolvedPath(f"{before}{place}{behind}", text, place, is_relative=is_relative)

    return WrapValidator(resolve)


def _local(text: str) -> _Parts | None:
    return None if not text or "://" in text else ("", text, "")


_WORDS = ("timm", "own")
_NOT_FILES = ("hf-hub:", "package:", "pretrained_on:")


def _file_of_weights(text: str) -> _Parts | None:
    return None if text in _WORDS or text.startswith(_NOT_FILES) else _local(text)


_SQLITE = re.compile(r"(?P<before>sqlite(?:\+\w+)?:///)(?P<path>[^?]+)(?P<behind>(?:\?.*)?)")


def _file_of_storage(text: str) -> _Parts | None:
    found = _SQLITE.fullmatch(text)
    if found is None or found["path"].startswith((":memory:", "file:")):
        return None
    return found["before"], found["path"], found["behind"]


PathOrUri = Annotated[str, _option(_local)]
"""A local path or an fsspec URI."""
Weights = Annotated[str, _option(_file_of_weights)]
"""Where weights are: a word, a source with a prefix, a local path or an fsspec URI."""
Storage = Annotated[str, _option(_file_of_storage)]
"""An Optuna storage; that of SQLite is a local file."""
