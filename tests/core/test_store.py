"""What only the store of ours says; ``tests/testing/test_stores.py`` holds the rest."""

from __future__ import annotations

import uuid
from pathlib import Path

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


def test_what_is_kept_comes_back_as_it_was_or_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, value = RunStore(tmp_path), {"seconds": 1.25, "of": [1, None, "ä"], "a": {"2": True}}
    assert store.kept("x.json") is None
    store.keep("x.json", {**value, "of": (1, None, "ä"), "a": {2: True}})
    data = (tmp_path / "x.json").read_bytes()
    assert store.kept("x.json") == value
    assert capsys.readouterr().err == ""
    for place in range(len(data)):
        for bit in range(8):
            changed = bytes([data[place] ^ 1 << bit])
            store.write_bytes("x.json", data[:place] + changed + data[place + 1 :])
            assert store.kept("x.json") in (None, value)
    for size in range(len(data) - 1):  # the last byte ends the line
        store.write_bytes("x.json", data[:size])
        assert store.kept("x.json") is None
        assert not store.exists("x.json")
    said = "".join(capsys.readouterr().err.split())  # lines end where the terminal does
    assert "x.jsonchangedafteritwaswritten:itismadeanew" in said


def test_a_manifest_with_another_bit_is_no_record_of_steps(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_text("a", "1")
    store.record("zoo", "made from this", ["a"], seconds=1.5)
    data, whole = (tmp_path / "manifest.json").read_bytes(), store.manifest()
    found = 0
    for place in range(len(data)):
        store.write_bytes(
            "manifest.json", data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        )
        try:
            assert store.manifest() in ({}, whole)  # spaces, and the hash's own name
        except UserError:
            found += 1
    assert found > 0.8 * len(data)


@pytest.mark.parametrize("remote", [False, True])
def test_what_was_left_unfinished_is_found(remote: bool, tmp_path: Path) -> None:
    store = RunStore(f"memory://{uuid.uuid4().hex}/run" if remote else tmp_path / "run")
    assert store.unfinished() == set()
    for name in (".aside-0-x", "winners/.aside-1-0/a/b", "grams/a/.aside-2-y", "grams/a/b"):
        store.write_text(name, "half")
    left = store.unfinished()
    assert left == {".aside-0-x", "winners/.aside-1-0", "grams/a/.aside-2-y"}
    for name in left:
        store.remove(name)
    assert store.unfinished() == set()
    assert store.list("grams/a") == ["b"]
