"""Stores with one plausible fault each."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from zoo_search.core.store import RunStore
from zoo_search.testing.stores import StoreContract


class Broken(StoreContract):
    must_fail: ClassVar[set[str]] = set()
    Store: ClassVar[type[RunStore]] = RunStore

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[[], RunStore]:
        return lambda: self.Store(tmp_path / "run")


class TestSound(Broken):
    pass


class TestFlat(Broken):
    """One folder for all, and names that are cut to what the author thought of."""

    must_fail: ClassVar = {"test_what_is_written_is_read"}

    class Store(RunStore):
        def _inner(self, name):
            return super()._inner(name.encode("ascii", "ignore").decode())


class TestTextMode(Broken):
    must_fail: ClassVar = {"test_what_is_written_is_read", "test_texts_are_utf_8"}

    class Store(RunStore):
        def write_bytes(self, name, data) -> None:
            super().write_bytes(name, data.decode("latin-1").encode("utf-8"))


class TestNanInJson(Broken):
    must_fail: ClassVar = {"test_json_comes_back_as_it_went"}

    class Store(RunStore):
        def write_json(self, name, value) -> None:
            self.write_text(name, json.dumps(value))


class TestRounded(Broken):
    must_fail: ClassVar = {"test_json_comes_back_as_it_went"}

    class Store(RunStore):
        def write_json(self, name, value) -> None:
            super().write_json(name, json.loads(json.dumps(value), parse_float=_short))


def _short(text: str) -> float:
    return round(float(text), 6)


class TestLooksOnce(Broken):
    """It lists a folder once and remembers."""

    must_fail: ClassVar = {"test_another_process_sees_what_is_written"}

    class Store(RunStore):
        def __init__(self, url) -> None:
            super().__init__(url)
            self.seen: dict[str, bool] = {}

        def exists(self, name):
            return self.seen.setdefault(name, super().exists(name))


class TestInPlace(Broken):
    """It writes where the artifact lies."""

    must_fail: ClassVar = {
        "test_a_writer_that_raises_leaves_the_old_bytes",
        "test_a_reader_never_sees_half",
    }

    class Store(RunStore):
        @contextlib.contextmanager
        def open(self, name, mode="rb"):
            path = Path(self._inner(name))
            if "w" in mode:
                path.parent.mkdir(parents=True, exist_ok=True)
            with path.open(mode) as stream:
                yield stream


class TestReadsByRanges(Broken):
    """It reads by ranges, and what was written in between is taken for the rest."""

    must_fail: ClassVar = {"test_readers_and_writers_do_not_mix"}

    class Store(RunStore):
        mixed = False

        def read_bytes(self, name):
            first = second = super().read_bytes(name)
            give_up = time.monotonic() + 5
            while not self.mixed and second == first and time.monotonic() < give_up:
                second = super().read_bytes(name)
            self.mixed |= second != first
            return first[: len(first) // 2] + second[len(first) // 2 :]


class TestEmptyIfMissing(Broken):
    must_fail: ClassVar = {"test_what_is_missing_is_named"}

    class Store(RunStore):
        def read_bytes(self, name):
            return super().read_bytes(name) if self.exists(name) else b""


class TestNamesNothing(Broken):
    must_fail: ClassVar = {"test_what_is_missing_is_named"}

    class Store(RunStore):
        @contextlib.contextmanager
        def open(self, name, mode="rb"):
            if "r" in mode and not self.exists(name):
                raise FileNotFoundError("the artifact does not exist")
            with super().open(name, mode) as stream:
                yield stream


class TestFolderInPlace(Broken):
    must_fail: ClassVar = {"test_a_folder_is_there_whole_or_not_at_all"}

    class Store(RunStore):
        @contextlib.contextmanager
        def local_folder(self, name) -> Iterator[Path]:
            folder = Path(self._inner(name))
            folder.mkdir(parents=True, exist_ok=True)
            yield folder


class TestMerged(Broken):
    """A new folder is laid over the old one."""

    must_fail: ClassVar = {"test_a_folder_is_there_whole_or_not_at_all"}

    class Store(RunStore):
        @contextlib.contextmanager
        def local_folder(self, name) -> Iterator[Path]:
            with super().local_folder(f"{name}.new") as folder:
                yield folder
            made = Path(self._inner(f"{name}.new"))
            shutil.copytree(made, self._inner(name), dirs_exist_ok=True)
            shutil.rmtree(made)


class TestByPrefix(Broken):
    """As object stores list: whatever begins so."""

    must_fail: ClassVar = {"test_a_folder_is_removed_whole"}

    class Store(RunStore):
        def remove(self, name) -> None:
            path = Path(self._inner(name))
            for found in path.parent.glob(f"{path.name}*"):
                if found.is_dir():
                    shutil.rmtree(found)
                else:
                    found.unlink()


class TestMoves(Broken):
    """The copy that it gives is the only one."""

    must_fail: ClassVar = {"test_a_local_copy_is_the_artifact"}

    class Store(RunStore):
        @contextlib.contextmanager
        def local_copy(self, name) -> Iterator[Path]:
            with super().local_copy(name) as path:
                yield path
            self.remove(name)


class TestDigestsTimes(Broken):
    must_fail: ClassVar = {"test_a_digest_sees_names_and_bytes_and_nothing_else"}

    class Store(RunStore):
        def digest(self, name):
            path = Path(self._inner(name))
            inside = sorted(path.rglob("*")) if path.is_dir() else [path]
            return str([(str(p), p.stat().st_mtime_ns) for p in inside])


class TestBelieves(Broken):
    """A step that was made is current, whatever became of its artifacts."""

    must_fail: ClassVar = {"test_a_step_is_current_until_its_inputs_or_artifacts_change"}

    class Store(RunStore):
        def is_current(self, step, made_from):
            record = self.manifest().get(step)
            return record is not None and record["made_from"] == made_from
