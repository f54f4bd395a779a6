"""Files that appear whole or not at all."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest

from zoo_search.core.errors import UserError
from zoo_search.core.files import atomic_path, is_local, open_whole, read, write


def test_what_is_made_aside_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    file, folder = tmp_path / "new" / "a.txt", tmp_path / "b"
    with atomic_path(file) as aside:
        aside.write_text("old", encoding="utf-8")
        assert not file.exists()
    with pytest.raises(ZeroDivisionError), atomic_path(file) as aside:
        aside.write_text("half", encoding="utf-8")
        _ = 1 / 0
    assert file.read_text(encoding="utf-8") == "old"
    for content in ("first", "second"):
        with atomic_path(folder) as aside:
            aside.mkdir()
            (aside / content).touch()
    assert [path.name for path in folder.iterdir()] == ["second"]
    assert {path.name for path in tmp_path.rglob("*")} == {"new", "a.txt", "b", "second"}


@pytest.mark.parametrize(
    "place", ["{tmp}/new/a.bin", "file://{tmp}/new/b.bin", "local://{tmp}/new/c", "memory://{id}/d"]
)
def test_a_path_and_a_uri_are_written_and_read_alike(place: str, tmp_path: Path) -> None:
    place = place.format(tmp=tmp_path, id=uuid.uuid4().hex)
    write(place, b"old and long")
    write(place, b"new")
    assert read(place) == b"new"
    fs, path = fsspec.core.url_to_fs(place)
    with pytest.raises(ZeroDivisionError), open_whole(fs, path, local=is_local(place)) as stream:
        stream.write(b"half")
        _ = 1 / 0
    assert read(place) == b"new"
    assert len(fs.ls(path.rpartition("/")[0])) == 1
    with pytest.raises(FileNotFoundError):
        read(f"{place}.missing")


def test_an_unknown_protocol_says_what_to_do() -> None:
    for attempt in (lambda: read("nowhere://a/b"), lambda: write("nowhere://a/b", b"")):
        with pytest.raises(UserError, match=r"The file nowhere://a/b cannot be opened: .*fsspec"):
            attempt()
