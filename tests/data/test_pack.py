"""A data set and its shards are the same images; a killed pack is gone on with."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_images import by_split, write_images

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.data import VisionDataset, ahead, open_dataset
from zoo_search.data.ahead import read_shuffled, shuffled
from zoo_search.data.encode import encoded
from zoo_search.data.pack import pack, source_of
from zoo_search.data.sources import ArrayReader, Reader, chunks

TINY = 0.03  # 10^6 bytes of a shard


def folder(path: Path | str, **options: object) -> DatasetConfig:
    return DatasetConfig(name="folder", path=str(path), **options)


def contents(dataset: VisionDataset, size: tuple[int, int] = (12, 12)) -> list[tuple[bytes, int]]:
    found = []
    for split in ("train", "test"):
        images = dataset.select(split).load(size)
        pixels = [image.numpy().tobytes() for image in images.images]
        found += zip(pixels, images.labels.tolist(), strict=True)
    return sorted(found)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def rows(root: Path) -> list[dict[str, object]]:
    return pq.read_table(root / "index.parquet").to_pylist()


@pytest.fixture
def split_pets(tmp_path: Path) -> Path:
    counts = {"train/cat": 23, "train/dog": 31, "val/cat": 5, "val/dog": 4}
    write_images(tmp_path / "split_pets", counts)
    return tmp_path / "split_pets"


def write_parquet(path: Path, count: int, rows: int) -> DatasetConfig:
    """Write images sorted by class, whose red is their class and whose green is their number."""
    stored = []
    for i in range(count):
        buffer = io.BytesIO()
        Image.new("RGB", (12, 12), (i * 4 // count, i % 256, i // 256)).save(buffer, "PNG")
        stored.append(buffer.getvalue())
    labels = [i * 4 // count for i in range(count)]
    pq.write_table(pa.table({"image": stored, "label": labels}), path, row_group_size=rows)
    return DatasetConfig(name="parquet", path=str(path))


def configs(tmp_path: Path, name: str, patch: pytest.MonkeyPatch) -> DatasetConfig:
    if name == "digits":
        rng = np.random.default_rng(0)
        data = SimpleNamespace(images=rng.integers(0, 17, (80, 8, 8)), target=np.arange(80) % 10)
        patch.setitem(sys.modules, "sklearn.datasets", SimpleNamespace(load_digits=lambda: data))
        return DatasetConfig(name="digits", per_class=6)
    if name == "parquet":
        return write_parquet(tmp_path / "x.parquet", 100, 9)
    counts = {"folder": {"cat": 20, "a dog.2": 30}}
    counts["split"] = {"train/cat": 23, "train/dog": 31, "val/cat": 5, "val/dog": 4}
    write_images(tmp_path / "images", counts[name])
    return folder(tmp_path / "images")


@pytest.mark.parametrize("name", ["digits", "parquet", "folder", "split"])
def test_the_pack_is_the_same_data_set(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configs(tmp_path, name, monkeypatch)
    done = pack(config, tmp_path / "out", shard_mb=TINY)
    before, after = open_dataset(config), open_dataset(done.dataset)
    assert after.classes == before.classes
    assert contents(after) == contents(before)
    assert done.dataset.per_class == config.per_class
    assert done.images == len(before) == len(after)
    assert done.shards == len(list((tmp_path / "out").glob("*.tar"))) > 2
    assert done.bytes == sum(p.stat().st_size for p in (tmp_path / "out").glob("*.tar"))
    assert max(p.stat().st_size for p in (tmp_path / "out").glob("*.tar")) <= TINY * 1e6
    if name == "split":
        assert len(by_split(after)["test"]) == 9


def test_tarfile_finds_the_bytes_where_the_index_says(tmp_path: Path, split_pets: Path) -> None:
    pack(folder(split_pets), tmp_path / "out", shard_mb=TINY)
    found = rows(tmp_path / "out")
    assert {row["source"] for row in found} == {
        str(p.relative_to(split_pets)) for p in split_pets.rglob("*.png")
    }
    classes = (tmp_path / "out/classes.txt").read_text(encoding="utf-8").splitlines()
    for row in found:
        source, key = str(row["source"]), str(row["id"]).partition(":")[2]
        with tarfile.open(tmp_path / "out" / str(row["shard"])) as tar:
            image, label = tar.getmember(f"{key}.png"), tar.extractfile(f"{key}.cls")
            assert label is not None
            assert classes[int(label.read())] == Path(source).parent.name
            data = tar.extractfile(image)
            assert data is not None
            assert data.read() == (split_pets / source).read_bytes()
            assert (image.offset_data, image.size) == (row["offset"], row["size"])
        assert row["split"] == ("test" if source.startswith("val") else "train")
        assert classes[int(str(row["label"]))] == Path(source).parent.name


def test_the_index_says_what_the_headers_say(tmp_path: Path, split_pets: Path) -> None:
    done = pack(folder(split_pets), tmp_path / "out", shard_mb=TINY)
    indexed = open_dataset(done.dataset)
    (tmp_path / "out/index.parquet").unlink()
    walked = open_dataset(done.dataset)
    assert walked.fingerprint == indexed.fingerprint
    assert walked.index.equals(indexed.index)
    assert contents(walked) == contents(indexed)


def test_an_index_of_other_shards_is_passed_over(tmp_path: Path, split_pets: Path) -> None:
    done = pack(folder(split_pets), tmp_path / "out", shard_mb=TINY)
    (tmp_path / "out/train-000001.tar").unlink()
    with pytest.warns(FutureWarning, match="was written for other shards"):
        fewer = open_dataset(done.dataset)
    assert len(fewer) < done.images
    contents(fewer)


def test_the_order_is_seeded_and_mixes_the_classes(tmp_path: Path, pets: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pack(folder(pets), tmp_path / name, shard_mb=TINY, seed=seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    orders = [[row["source"] for row in rows(tmp_path / name)] for name in "ac"]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) != orders[0]


def test_row_groups_are_read_once_and_mixed(tmp_path: Path) -> None:
    """Of Parquet a row group is the least that can be read."""
    config = write_parquet(tmp_path / "x.parquet", 3000, 100)
    dataset = open_dataset(config)
    ids = dataset.index["id"].to_pylist()
    windows = shuffled(dataset.reader, ids, 0)
    groups = [group for window in windows for group in window]
    assert sorted(name for group in groups for name in group) == sorted(ids)
    assert [len(dataset.reader._by_row_group(group)) for group in groups] == [  # type: ignore[attr-defined]
        len(group) // 100 for group in groups
    ]
    found = [
        int(image.id[-8:]) * 4 // 3000 for image in read_shuffled(dataset.reader, ids, 0, None)
    ]
    changes = sum(a != b for a, b in itertools.pairwise(found))
    assert len(found) == 3000
    assert changes > 1000  # 3 if they were not mixed, 2250 if wholly


@pytest.mark.parametrize("skip", [0, 1, 31, 32, 700, 1024, 1299, 1300])
def test_going_on_is_the_rest_of_the_same_order(skip: int) -> None:
    ids = [f"x/{i}" for i in range(1300)]

    class Groups(ArrayReader):
        def groups(self, ids):
            return chunks(sorted(ids))

    images = np.arange(1300, dtype=np.uint16)[:, None, None].repeat(2, 1).view(np.uint8)
    for reader in (ArrayReader(images), Groups(images)):
        whole = [image.id for image in read_shuffled(reader, ids, 3, None)]
        assert sorted(whole) == sorted(ids)
        assert [image.id for image in read_shuffled(reader, ids, 3, None, skip)] == whole[skip:]


def test_reading_waits_for_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Counting(Reader):
        def read(self, ids):
            for name in ids:
                read.append(name)
                yield name, np.zeros((4, 4), dtype=np.uint8)

    images = read_shuffled(Counting(), [f"{i}" for i in range(5000)], 0, None)
    next(images)
    time.sleep(0.3)
    assert len(read) <= (2 * ahead._THREADS + 1) * ahead._TOGETHER
    monkeypatch.setattr(ahead, "_HELD", 1)  # byte, and more are there
    before = len(read)
    for _ in range(ahead._TOGETHER):
        next(images)
    time.sleep(0.1)
    assert len(read) == before
    images.close()


def test_bad_images_are_named_and_left_out(tmp_path: Path, pets: Path) -> None:
    (pets / "dog/3.png").write_bytes((pets / "dog/3.png").read_bytes()[:40])
    (pets / "cat/0.png").write_bytes(b"")
    done = pack(folder(pets, max_bad=0.1), tmp_path / "out", shard_mb=TINY)
    assert done.bad == {"cat/0.png": "the file is empty", "dog/3.png": done.bad["dog/3.png"]}
    assert done.images == 33
    assert pack(folder(pets, max_bad=0.1), tmp_path / "out", shard_mb=TINY).bad == done.bad
    with pytest.raises(UserError, match="2 of 35 images could not be decoded"):
        pack(folder(pets, max_bad=0.03), tmp_path / "out", shard_mb=TINY)
    again = open_dataset(done.dataset.model_copy(update={"max_bad": 0.0}))
    assert contents(again) == contents(open_dataset(folder(pets, max_bad=0.1)))
    with pytest.raises(UserError, match=r"\d of 35 images could not be decoded: "):
        pack(folder(pets), tmp_path / "other", shard_mb=TINY)
    for path in pets.rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(UserError, match="None of the 35 images of the train split can be read"):
        pack(folder(pets, max_bad=1.0), tmp_path / "none")


def picture(size: tuple[int, int], form: str, **options: object) -> bytes:
    noise = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, form, **options)
    return buffer.getvalue()


def test_what_is_large_is_shrunk_and_all_else_stays() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    for data, ending, size in (
        (picture((40, 30), "JPEG"), "jpg", (26, 20)),
        (picture((40, 30), "PNG"), "png", (26, 20)),
        (picture((30, 40), "WEBP"), "jpg", (20, 26)),
        (picture((40, 30), "JPEG", exif=turned), "jpg", (20, 26)),
    ):
        small, found = encoded(data, 20)
        with Image.open(io.BytesIO(small)) as image:
            assert (found, image.size) == (ending, size)
            assert image.format == {"jpg": "JPEG", "png": "PNG"}[ending]
        assert encoded(data, 30) == encoded(data) == (data, encoded(data)[1])
    assert encoded(picture((9, 9), "BMP"))[1] == "bmp"
    icon, ending = encoded(picture((16, 16), "ICO"))  # a format that readers of shards pass over
    assert ending == "png"
    assert icon.startswith(b"\x89PNG")


def test_arrays_become_png_of_the_same_pixels() -> None:
    rng = np.random.default_rng(0)
    for array in (
        rng.integers(0, 255, (5, 7, 3)).astype(np.uint8),
        rng.integers(0, 255, (5, 7)).astype(np.uint8),
        Image.fromarray(rng.integers(0, 255, (5, 7, 3)).astype(np.uint8)),
    ):
        data, ending = encoded(array)
        expected = np.asarray(array)
        expected = np.stack([expected] * 3, 2) if expected.ndim == 2 else expected
        assert ending == "png"
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(np.asarray(image.convert("RGB")), expected)


def test_a_uri_gives_the_same_bytes(tmp_path: Path, split_pets: Path) -> None:
    pack(folder(split_pets), tmp_path / "out", shard_mb=TINY)
    root = f"/{uuid.uuid4().hex}"
    memory = fsspec.filesystem("memory")
    try:
        done = pack(folder(split_pets), f"memory:/{root}", shard_mb=TINY)
        found = {p[len(root) + 1 :]: memory.cat_file(p) for p in memory.find(root)}
        assert found == files(tmp_path / "out")
        assert contents(open_dataset(done.dataset)) == contents(open_dataset(folder(split_pets)))
        assert pack(folder(split_pets), f"memory:/{root}", shard_mb=TINY).kept == done.shards
    finally:
        memory.rm(root, recursive=True)


def test_kill_9_and_go_on(tmp_path: Path, split_pets: Path) -> None:
    code = f"""
import sys, time
from zoo_search.config import DatasetConfig
from zoo_search.data.pack import pack
from zoo_search.data.tar_writer import TarWriter

add = TarWriter.add

def slow(self, *args):
    time.sleep(0.02)
    return add(self, *args)

TarWriter.add = slow
pack(DatasetConfig(name="folder", path={str(split_pets)!r}), sys.argv[1], shard_mb={TINY})
"""
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", code, str(out)], stderr=subprocess.DEVNULL) as one:
        while len(list(out.glob("parts/*.parquet"))) < 2 or not list(out.glob(".aside-*")):
            assert one.poll() is None
            time.sleep(0.005)
        os.kill(one.pid, signal.SIGKILL)
    assert not (out / "index.parquet").exists()
    with pytest.raises(UserError, match=r"has not finished\. Give the same command again"):
        open_dataset(DatasetConfig(name="webdataset", path=str(out)))
    before = {p.name: p.stat() for p in out.glob("*.tar")}
    done = pack(folder(split_pets), out, shard_mb=TINY)
    assert 2 <= done.kept < done.shards
    kept = [f"train-{i:06d}.tar" for i in range(done.kept)]
    assert all(before[name].st_ino == (out / name).stat().st_ino for name in kept)
    pack(folder(split_pets), tmp_path / "whole", shard_mb=TINY)
    assert files(out) == files(tmp_path / "whole")


def test_dying_at_any_write_costs_one_shard(
    tmp_path: Path, split_pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pack(folder(split_pets), tmp_path / "whole", shard_mb=2.5 * TINY)
    expected = files(tmp_path / "whole")
    opens = RunStore.open

    class DeadError(Exception):
        pass

    for after in (False, True):
        for fatal in range(2 + 2 * whole.shards + 2):
            count = iter(range(1000))

            @contextmanager
            def dying(
                self: RunStore, name: str, mode: str = "rb", count=count, fatal=fatal, after=after
            ) -> Iterator[object]:
                dies = mode == "wb" and next(count) == fatal
                with opens(self, name, mode) as stream:  # type: ignore[arg-type]
                    yield stream
                    if dies and not after:
                        raise DeadError
                if dies:
                    raise DeadError

            out = tmp_path / f"out-{fatal}-{after}"
            with monkeypatch.context() as patch:
                patch.setattr(RunStore, "open", dying)
                with pytest.raises(DeadError):
                    pack(folder(split_pets), out, shard_mb=2.5 * TINY)
            pack(folder(split_pets), out, shard_mb=2.5 * TINY)
            assert files(out) == expected


def test_a_shard_that_is_gone_is_made_again(tmp_path: Path, split_pets: Path) -> None:
    pack(folder(split_pets), tmp_path / "out", shard_mb=TINY)
    expected = files(tmp_path / "out")
    (tmp_path / "out/train-000001.tar").unlink()
    (tmp_path / "out/.aside-12-train-000001.tar").write_bytes(b"half")
    (tmp_path / "out/train-000099.tar").write_bytes(b"of nobody")
    pack(folder(split_pets), tmp_path / "out", shard_mb=TINY)
    assert files(tmp_path / "out") == expected


def test_a_shard_that_was_changed_since_is_not_kept(tmp_path: Path, split_pets: Path) -> None:
    out = tmp_path / "out"
    whole = pack(folder(split_pets), out, shard_mb=TINY)
    expected = files(out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo_search.data.packing.Packing.end", lambda packing: None)
        (out / "index.parquet").unlink()
        pack(folder(split_pets), out, shard_mb=TINY)
    assert len(list(out.glob("parts/*"))) == whole.shards
    (out / "train-000002.tar").write_bytes(b"cut")
    assert pack(folder(split_pets), out, shard_mb=TINY).kept == whole.shards - 1 - (
        sum(p.name > "train-000002.tar" for p in out.glob("train*"))
    )
    assert files(out) == expected


def test_other_things_and_other_packs_are_refused(tmp_path: Path, pets: Path) -> None:
    with pytest.raises(UserError, match=r"holds other things: cat/0\.png, .* and 30 more"):
        pack(folder(pets), pets)
    assert not (pets / "pack.json").exists()
    out = tmp_path / "out"
    out.mkdir()
    (out / "pack.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"holds other things: pack\.json"):
        pack(folder(pets), out)
    (out / "pack.json").unlink()
    pack(folder(pets), out)
    with pytest.raises(UserError, match=r"another --seed, --shard-mb, --resize\. Give the"):
        pack(folder(pets), out, seed=1, shard_mb=1, resize=8)
    (pets / "cat/0.png").write_bytes((pets / "cat/1.png").read_bytes())
    with pytest.raises(UserError, match=r"another data set\. Give the"):
        pack(folder(pets), out)
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"holds other things: notes\.txt"):
        pack(folder(pets), out)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, pets: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"OUT: .*file/out cannot be written"):
        pack(folder(pets), tmp_path / "file/out")
    with pytest.raises(UserError, match="OUT: nope://x cannot be opened"):
        pack(folder(pets), "nope://x")


def test_a_pack_can_be_packed(tmp_path: Path, split_pets: Path) -> None:
    first = pack(folder(split_pets), tmp_path / "first", shard_mb=TINY)
    second = pack(first.dataset, tmp_path / "second", shard_mb=2 * TINY, seed=5)
    assert contents(open_dataset(second.dataset)) == contents(open_dataset(folder(split_pets)))


def test_the_source_is_a_run_file_or_a_path(tmp_path: Path) -> None:
    job = {"name": "a", "zoo": {"m": {"arch": "resnet18"}}, "dataset": "digits"}
    (tmp_path / "job.yaml").write_text(json.dumps(job), encoding="utf-8")
    assert source_of(str(tmp_path / "job.yaml")).name == "digits"
    assert source_of("s3://bucket/x") == folder("s3://bucket/x")
    assert source_of("x", "parquet") == DatasetConfig(name="parquet", path="x")
    with pytest.raises(UserError, match=r"--name folder: .* is a run file"):
        source_of(str(tmp_path / "job.yaml"), "folder")
