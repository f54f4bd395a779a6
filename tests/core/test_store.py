"""What only the store of ours says; ``tests/testing/test_stores.py`` holds the rest."""

from __future__ import annotations

import uuid

import pytest

from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore


def test_a_folder_on_an_object_store_counts_once_its_last_file_is_there() -> None:
    store = RunStore(f"memory://{uuid.uuid4().hex}/run")
    store.write_text("w/0/one", "what was put before the process died")
    assert not store.exists("w/0")
    with store.local_folder("w/0") as folder:
        (folder / "two").write_text("2")
    assert store.exists("w/0")
    assert store.list("w/0") == ["two"]
    store.remove("w/0")
    assert not store.exists("w/0/two")


def test_an_unknown_protocol_is_a_user_error() -> None:
    with pytest.raises(UserError, match="fsspec"):
        RunStore("nowhere://bucket/run")
