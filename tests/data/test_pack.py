"""A data set and its shards are the same images."""

from __future__ import annotations

import json
import sys
import tarfile
import uuid
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from small_images import by_split, write_images
from small_packs import TINY, contents, files, folder, write_parquet

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import SPLITS, VisionDataset, open_dataset
from zoo_search.data.pack import pack, source_of


def rows(root: Path) -> list[dict[str, object]]:
    return pq.read_table(root / "index.parquet").to_pylist()


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
    counts["three"] = {**counts["split"], "test/cat": 6, "test/dog": 3}
    write_images(tmp_path / "images", counts[name])
    return folder(tmp_path / "images")


@pytest.mark.parametrize("name", ["digits", "parquet", "folder", "split", "three"])
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
    if name in ("split", "three"):
        held_out = {"validation": 9 * (name == "three"), "test": 9}
        assert {s: len(names) for s, names in by_split(after).items()} == {"train": 54, **held_out}
        assert contents_by_split(after) == contents_by_split(before)
        assert done.splits == {s: n for s, n in {"train": 54, **held_out}.items() if n}
        (tmp_path / "out/index.parquet").unlink()
        assert contents_by_split(open_dataset(done.dataset)) == contents_by_split(before)
    else:
        assert done.splits == {"train": len(before)}


def contents_by_split(dataset: VisionDataset) -> dict[str, list[tuple[bytes, int]]]:
    return {s: contents(dataset, splits=(s,)) for s in SPLITS if dataset.has(s)}


def test_a_validation_split_has_shards_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configs(tmp_path, "three", monkeypatch)
    done = pack(config, tmp_path / "out", shard_mb=TINY)
    assert str(done).startswith(f"{done.shards} shards, 72 images (54 train, 9 validation, 9 test)")
    shards = {path.name.partition("-")[0] for path in (tmp_path / "out").glob("*.tar")}
    assert shards == {"train", "validation", "test"}
    assert (tmp_path / "out/validation-000000.tar").exists()
    for row in rows(tmp_path / "out"):
        folder = str(row["source"]).partition("/")[0]
        assert row["split"] == {"val": "validation"}.get(folder, folder)
        assert str(row["shard"]).startswith(f"{row['split']}-0")


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


def test_a_validation_split_is_packed_beside_the_others(tmp_path: Path) -> None:
    write_images(
        tmp_path / "in", {f"{split}/{c}": n for split, n in (("train", 4), ("test", 3), ("val", 2))
                          for c in "ab"}
    )  # fmt: skip
    done = pack(folder(tmp_path / "in"), tmp_path / "out", shard_mb=TINY)
    assert done.images == 18
    packed = open_dataset(DatasetConfig(name="webdataset", path=str(tmp_path / "out")))
    sizes = {split: len(packed.select(split)) for split in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert sizes == {"train": 8, "validation": 4, "test": 6}
    assert any(path.name.startswith("validation-") for path in (tmp_path / "out").glob("*.tar"))
