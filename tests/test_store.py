from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from zoo_search.errors import UserError
from zoo_search.store import RunStore, fingerprint, whole


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunStore]:
    if request.param == "local":
        yield RunStore(tmp_path / "run")
        return
    url = f"memory://{uuid.uuid4().hex}/run"
    yield RunStore(url)
    fsspec.filesystem("memory").store.clear()


def test_what_is_written_is_read_back(store: RunStore) -> None:
    store.write_json("a/b.json", {"x": [1, 2.5, "ü"]})
    assert store.read_json("a/b.json") == {"x": [1, 2.5, "ü"]}
    assert store.list("a") == ["b.json"]
    assert store.exists("a/b.json")
    store.remove("a/b.json")
    assert not store.exists("a/b.json")


def test_a_write_that_breaks_off_leaves_the_old_artifact_whole(store: RunStore) -> None:
    store.write_text("x.txt", "old")
    with pytest.raises(RuntimeError, match="cut"), store.open("x.txt", "wb") as stream:
        stream.write(b"half of the n")
        raise RuntimeError("cut")
    assert store.read_text("x.txt") == "old"
    assert store.list("") == ["x.txt"]


def test_a_folder_appears_whole_or_not_at_all(store: RunStore) -> None:
    with pytest.raises(RuntimeError, match="cut"), store.local_folder("w/0") as folder:
        (folder / "one").write_text("1")
        raise RuntimeError("cut")
    assert not store.exists("w/0/one")
    with store.local_folder("w/0") as folder:
        (folder / "one").write_text("1")
    with store.local_folder("w/0") as folder:
        (folder / "two").write_text("2")
    assert store.list("w/0") == ["two"]
    with store.local_copy("w/0/two") as path:
        assert path.read_text() == "2"


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


def test_nan_never_gets_into_a_json_artifact(store: RunStore) -> None:
    with pytest.raises(ValueError, match="JSON"):
        store.write_json("x.json", {"score": float("nan")})


def test_a_step_is_current_until_its_inputs_or_its_artifacts_change(store: RunStore) -> None:
    store.write_text("out.txt", "result")
    assert not store.is_current("step", "h1")
    store.record("step", "h1", ["out.txt"], seconds=1.0, facts={})
    assert store.is_current("step", "h1")
    assert not store.is_current("step", "h2")
    before = store.result_of("step")
    store.write_text("out.txt", "touched")
    assert not store.is_current("step", "h1")
    store.record("step", "h1", ["out.txt"], seconds=1.0, facts={})
    assert store.result_of("step") != before
    store.remove("out.txt")
    assert not store.is_current("step", "h1")


def test_the_digest_of_a_folder_sees_names_and_contents(store: RunStore) -> None:
    store.write_text("f/a", "1")
    first = store.digest("f")
    store.write_text("f/b", "2")
    second = store.digest("f")
    store.write_text("f/b", "3")
    assert len({first, second, store.digest("f")}) == 3


def test_the_fingerprint_ignores_the_order_of_keys_only() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})


def test_an_unknown_protocol_is_a_user_error() -> None:
    with pytest.raises(UserError, match="fsspec"):
        RunStore("nowhere://bucket/run")


def test_what_is_made_aside_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    file, folder = tmp_path / "new" / "a.txt", tmp_path / "b"
    with whole(file) as aside:
        aside.write_text("old", encoding="utf-8")
        assert not file.exists()
    with pytest.raises(ZeroDivisionError), whole(file) as aside:
        aside.write_text("half", encoding="utf-8")
        _ = 1 / 0
    assert file.read_text(encoding="utf-8") == "old"
    for content in ("first", "second"):
        with whole(folder) as aside:
            aside.mkdir()
            (aside / content).touch()
    assert [path.name for path in folder.iterdir()] == ["second"]
    assert {path.name for path in tmp_path.rglob("*")} == {"new", "a.txt", "b", "second"}
