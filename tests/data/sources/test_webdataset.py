"""Tar shards that other programs wrote: Python's tarfile, GNU tar."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import fsspec
import numpy as np
import pytest
from small_images import png

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import VisionDataset, open_dataset
from zoo_search.data.sources import webdataset as source
from zoo_search.data.sources.webdataset import Places, ShardReader

Members = Iterable[tuple[str, bytes]]


def write_tar(path: Path, members: Members, form: int = tarfile.GNU_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pair(key: str, value: int, label: object) -> list[tuple[str, bytes]]:
    return [(f"{key}.cls", str(label).encode()), (f"{key}.png", png(value))]


def opened(path: Path | str, **options: object) -> VisionDataset:
    return open_dataset(DatasetConfig(name="webdataset", path=str(path), **options))


def colours(dataset: VisionDataset) -> dict[str, tuple[int, str]]:
    """Return red, which is its number, and class of each image."""
    found = {}
    for split in ("train", "test"):
        if split in dataset.index["split"].to_pylist():
            images = dataset.select(split).load((2, 2))
            for name, image, label in zip(images.ids, images.images, images.labels, strict=True):
                found[name] = int(image[0, 0, 0]), dataset.classes[int(label)]
    return found


def eight(prefix: str = "") -> list[tuple[str, bytes]]:
    return [m for i in range(8) for m in pair(f"{prefix}{i:04d}", i, "ant" if i % 2 else "bee")]


def test_the_bytes_are_those_that_tarfile_extracts(tmp_path: Path) -> None:
    members = [
        ("a/b.c/0.jpg", b"one" * 300),
        ("a/b.c/0.cls", b"7"),
        ("1.webp", b""),
        ("1.cls", b"9"),
    ]
    path = write_tar(tmp_path / "x.tar", members)
    ids = ["x.tar:a/b.c/0", "x.tar:1"]
    listing = source.webdataset(DatasetConfig(name="webdataset", path=str(tmp_path)))
    assert listing.ids == ids
    assert listing.classes == ("7", "9")
    assert listing.labels == [0, 1]
    with tarfile.open(path) as tar:
        expected = {
            name: tar.extractfile(member).read()  # type: ignore[union-attr]
            for name, member in zip(ids, ("a/b.c/0.jpg", "1.webp"), strict=True)
        }
    assert dict(listing.reader.read(ids[::-1])) == expected


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_folders_in_every_kind_of_tar(tmp_path: Path, form: int) -> None:
    deep = "shöne/" + "/".join(
        ["folder.with.dots" * 2] * (2 if form == tarfile.USTAR_FORMAT else 9)
    )
    dataset = opened(write_tar(tmp_path / "x.tar", eight(f"{deep}/img_"), form))
    found = colours(dataset)
    assert found == {f"x.tar:{deep}/img_{i:04d}": (i, "ant" if i % 2 else "bee") for i in range(8)}


def test_a_shard_of_gnu_tar(tmp_path: Path) -> None:
    """Directories, hidden files and members in any order of endings, names from ``./`` on."""
    if shutil.which("tar") is None:
        pytest.skip("no tar here")
    for name, data in eight(f"in/{'long' * 40}_"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "in/.hidden.png").write_bytes(b"no image")
    (tmp_path / "in/__index__.json").write_text("{}", encoding="utf-8")
    call = ["tar", "--sort=name", "-cf", str(tmp_path / "x.tar"), "-C", str(tmp_path / "in"), "."]
    if subprocess.run(call, check=False, capture_output=True).returncode:
        pytest.skip("not the tar of GNU")
    assert sorted(colours(opened(tmp_path / "x.tar")).values()) == [
        (i, "ant" if i % 2 else "bee") for i in range(8)
    ]


def test_labels_from_json_and_which_member_is_the_image(tmp_path: Path) -> None:
    def sample(i: int, key: str) -> list[tuple[str, bytes]]:
        told = json.dumps({"caption": "x", key: f"c{i % 2}"}).encode()
        return [(f"{i}.json", told), (f"{i}.mask.png", png(99)), (f"{i}.PNG", png(i)),
                (f"{i}.txt", b"words")]  # fmt: skip

    keys = ("label", "cls", "class")
    members = [m for i in range(9) for m in sample(i, keys[i % 3])]
    cls_first = [("9.json", b'{"label": "c0"}'), ("9.image.png", png(9)), ("9.cls", b" c1\n")]
    found = colours(opened(write_tar(tmp_path / "x.tar", [*members, *cls_first])))
    assert found == {f"x.tar:{i}": (i, f"c{i % 2}") for i in range(10)}


def test_classes_of_a_file_are_positions_or_names(tmp_path: Path) -> None:
    names = ["zebra fish", "ant", "bee"]
    (tmp_path / "classes.txt").write_text("\r\n".join([*names, ""]), encoding="utf-8")
    members = [m for i in range(9) for m in pair(f"{i}", i, i % 3)]
    write_tar(tmp_path / "x.tar", members)
    assert opened(tmp_path).classes == tuple(names)
    expected = {f"x.tar:{i}": (i, names[i % 3]) for i in range(9)}
    assert colours(opened(tmp_path)) == expected
    write_tar(tmp_path / "x.tar", [m for i in range(9) for m in pair(f"{i}", i, names[i % 3])])
    assert colours(opened(tmp_path)) == expected
    (tmp_path / "classes.txt").write_text("ant\nbee\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"not in its classes\.txt: zebra fish\. Allowed are the 2"):
        opened(tmp_path)
    (tmp_path / "classes.txt").write_text("ant\nant\n", encoding="utf-8")
    with pytest.raises(UserError, match="none twice"):
        opened(tmp_path)


def test_words_in_the_names_of_shards_are_splits(tmp_path: Path) -> None:
    for name, start in (("imagenet-train-0", 0), ("val/1", 4), ("notes", 6)):
        members = [m for i in range(start, start + 4) for m in pair(f"{i}", i, i % 2)]
        write_tar(tmp_path / f"{name}.tar", members)
    dataset = opened(tmp_path)
    assert {n.partition(":")[0] for n in dataset.select("train").ids} == {"imagenet-train-0.tar"}
    assert {n.partition(":")[0] for n in dataset.select("test").ids} == {"val/1.tar"}
    assert not dataset.has("validation")
    write_tar(tmp_path / "test.tar", [*pair("8", 8, 0), *pair("9", 9, 1)])
    dataset = opened(tmp_path)
    assert {n.partition(":")[0] for n in dataset.select("validation").ids} == {"val/1.tar"}
    assert {n.partition(":")[0] for n in dataset.select("test").ids} == {"test.tar"}
    assert {n.partition(":")[0] for n in dataset.select("train").ids} == {"imagenet-train-0.tar"}


def test_a_uri_gives_the_same(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"{number}.tar", eight(f"{number}-"))
    memory = fsspec.filesystem("memory")
    try:
        for path in tmp_path.glob("*.tar"):
            memory.pipe_file(f"/wds/{path.name}", path.read_bytes())
        here, there = opened(tmp_path), opened("memory://wds")
        assert there.fingerprint == here.fingerprint
        assert colours(there) == colours(here)
        assert opened("memory://wds/1.tar").index.num_rows == 8
    finally:
        memory.rm("/wds", recursive=True)


def test_a_long_walk_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        write_tar(tmp_path / f"{number}.tar", eight())
    opened(tmp_path)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(source, "_LONG", 0)
    opened(tmp_path)
    assert "headers of shards: 3/3" in capsys.readouterr().err


def test_a_million_places_are_small_and_found(tmp_path: Path) -> None:
    count = 100_000
    ids = [f"s-{i % 50}.tar:{i:07d}" for i in range(count)]
    numbers = np.arange(count)
    places = Places((numbers % 50).astype(np.int32), 1000 * numbers, numbers % 7)
    reader = ShardReader(None, [f"s-{i}.tar" for i in range(50)], ids, places)  # type: ignore[arg-type]
    assert len(pickle.dumps(reader)) < 30 * count
    parts = reader._parts([ids[77_777], ids[3]])
    assert [tuple(part) for part in parts] == [
        (ids[77_777], "s-27.tar", 77_777_000, 77_777_000 + 77_777 % 7),
        (ids[3], "s-3.tar", 3000, 3003),
    ]
    with pytest.raises(KeyError):
        reader._parts(["s-0.tar:else"])


def test_every_cut_and_every_hole_is_seen(tmp_path: Path) -> None:
    """Also damage after the first header, which tarfile takes for the end."""
    whole = write_tar(tmp_path / "x.tar", eight()).read_bytes()
    with tarfile.open(tmp_path / "x.tar") as tar:
        members = tar.getmembers()
        last, third = members[-1], members[2]
    blocks = last.offset_data + -(-last.size // 512) * 512
    cuts = [0, 100, 512, third.offset, third.offset + 200, last.offset_data + 3, blocks]
    hole = whole[: third.offset] + b"\xff" * 512 + whole[third.offset + 512 :]
    for damaged in (*(whole[:cut] for cut in cuts), hole, b"\x1f\x8b" + whole[2:]):
        (tmp_path / "x.tar").write_bytes(damaged)
        with pytest.raises(UserError, match=r"x\.tar is damaged, cut short, or no plain tar"):
            opened(tmp_path)
    (tmp_path / "x.tar").write_bytes(whole[: blocks + 512])
    assert len(opened(tmp_path)) == 8


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("1.cls", b"0"), ("1.txt", b"")], r"'1' in x\.tar has no image; its members end in cls"),
        ([("d/1.png", png(1))], r"'d/1' in x\.tar has no label; its members end in png"),
        ([("1.png", png(1)), ("1.cls", b" ")], "has no label"),
        ([("1.png", png(1)), ("1.json", b"[1]")], "has no label"),
        ([("1.png", png(1)), ("1.json", b'{"label": true}')], "has no label"),
        ([("1.png", png(1)), ("1.json", b"{")], "has no label"),
        ([*pair("1", 1, "ant"), *pair("2", 2, 5)], "integers or all strings.*found: int, str"),
        ([*pair("1", 1, 0), *pair("2", 2, 0), *pair("1", 1, 0)], "'1' comes more than once"),
        ([*pair("1", 1, 0), *pair("1", 2, 0)], r"two members '1\.cls'"),
        ([("README", b"")], "hold no samples"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path: Path, members: list[tuple[str, bytes]], said: str) -> None:
    write_tar(tmp_path / "x.tar", members)
    with pytest.raises(UserError, match=said):
        opened(tmp_path)


def test_compressed_and_missing_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \.tar file"):
        opened(tmp_path)
    write_tar(tmp_path / "a.tar", eight())
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz"):
        pass
    for path in (tmp_path, tmp_path / "b.tar.gz"):
        with pytest.raises(UserError, match=r"compressed shards: b\.tar\.gz.*Unpack them"):
            opened(path)


def test_a_shard_that_shrinks_after_it_was_listed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", eight())
    dataset = opened(tmp_path, max_bad=1.0)
    path.write_bytes(path.read_bytes()[:600])
    subset = dataset.select("train")
    assert len(subset.load((2, 2))) == 0
    assert set(subset.skipped.reasons().values()) == {"the shard ends before the image does"}
