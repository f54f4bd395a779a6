"""The run store keeps to the contract on every file system that a machine has without a network."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from testing.running import check_broken

from zoo_search.core.store import RunStore
from zoo_search.testing.stores import StoreContract


class TestFolder(StoreContract):
    @pytest.fixture(params=["{}", "file://{}", "local://{}"])
    def open_store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], RunStore]:
        url = request.param.format(tmp_path / "a run" / "x")
        return lambda: RunStore(url)


class TestMemory(StoreContract):
    @pytest.fixture
    def open_store(self) -> Iterator[Callable[[], RunStore]]:
        url = f"memory://{uuid.uuid4().hex}/run"
        yield lambda: RunStore(url)
        files = fsspec.filesystem("memory")
        if files.exists(url):
            files.rm(url, recursive=True)


class TestInside(StoreContract):
    """A folder of another file system: to the store it is as remote as a bucket."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[[], RunStore]:
        (tmp_path / "inner").mkdir()
        return lambda: RunStore(f"dir::file://{tmp_path}/inner")


def test_a_broken_store_fails() -> None:
    check_broken(Path(__file__).with_name("broken_stores.py"), StoreContract)
