"""Parquet files with images, written here."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_images import png

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import open_dataset


def write_parquet(
    path: Path, start: int, count: int, *, nested: bool = False, rows: int = 7, **extra: list[str]
) -> None:
    """Write images whose red is their number; labels alternate between two strings."""
    images = [png(start + i) for i in range(count)]
    column = [{"bytes": data, "path": None} for data in images] if nested else images
    labels = ["ant" if i % 2 else "bee" for i in range(start, start + count)]
    table = pa.table({"image": column, "label": labels, **extra})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows)


@pytest.mark.parametrize("nested", [False, True])
def test_parquet_folder(tmp_path: Path, nested: bool) -> None:
    write_parquet(tmp_path / "a.parquet", 0, 40, nested=nested)
    write_parquet(tmp_path / "deep/b.parquet", 40, 30, nested=nested, rows=100)
    dataset = open_dataset(DatasetConfig(name="parquet", path=str(tmp_path)))
    assert dataset.classes == ("ant", "bee")
    assert len(dataset) == 70
    start = {"a.parquet": 0, "deep/b.parquet": 40}
    subset = dataset.select("train", limit=33)
    images = subset.load((2, 2))
    assert images.ids == subset.ids
    for name, image, label in zip(images.ids, images.images, images.labels, strict=True):
        file, _, row = name.rpartition(":")
        number = start[file] + int(row)
        assert image[:, 0, 0].tolist() == [number, 0, 255 - number]
        assert dataset.classes[int(label)] == ("ant" if number % 2 else "bee")
    groups = subset.reader.groups(subset.ids)
    assert sorted(name for group in groups for name in group) == sorted(subset.ids)


def test_parquet_splits_by_column_and_by_name(tmp_path: Path) -> None:
    split = ["train"] * 12 + ["validation"] * 4 + ["test"] * 4
    write_parquet(tmp_path / "one.parquet", 0, 20, split=split)
    dataset = open_dataset(DatasetConfig(name="parquet", path=str(tmp_path / "one.parquet")))
    assert len(dataset.select("train")) == 12
    for part, rows in (("validation", {12, 13, 14, 15}), ("test", {16, 17, 18, 19})):
        assert {int(n.rpartition(":")[2]) for n in dataset.select(part).ids} == rows
    write_parquet(tmp_path / "hub/data/train-00000-of-00001.parquet", 0, 10)
    write_parquet(tmp_path / "hub/data/validation-00000-of-00001.parquet", 10, 4)
    dataset = open_dataset(DatasetConfig(name="parquet", path=str(tmp_path / "hub")))
    assert all("validation" in name for name in dataset.select("test").ids)
    assert all("train" in name for name in dataset.select("train").ids)
    assert not dataset.has("validation")
    write_parquet(tmp_path / "hub/data/test-00000-of-00001.parquet", 14, 6)
    dataset = open_dataset(DatasetConfig(name="parquet", path=str(tmp_path / "hub")))
    for part, count in (("train", 10), ("validation", 4), ("test", 6)):
        ids = dataset.select(part).ids
        assert (len(ids), all(part in name for name in ids)) == (count, True)


def test_parquet_says_what_is_wrong(tmp_path: Path) -> None:
    config = DatasetConfig(name="parquet", path=str(tmp_path))
    with pytest.raises(UserError, match=r"no \.parquet file"):
        open_dataset(config)
    (tmp_path / "x.parquet").write_bytes(b"PAR0 and more that is no parquet")
    with pytest.raises(UserError, match=r"x\.parquet is not a Parquet file"):
        open_dataset(config)
    pq.write_table(pa.table({"picture": ["a"], "label": [1]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="no image column; its columns are picture, label"):
        open_dataset(config)
    pq.write_table(pa.table({"image": [b"a"], "kind": [1]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="no label column"):
        open_dataset(config)
    pq.write_table(pa.table({"image": [b"a", b"b"], "label": [1, None]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="without gaps; found: NoneType, int"):
        open_dataset(config)


def test_parquet_null_and_broken_images(tmp_path: Path) -> None:
    images = [png(i) for i in range(8)] + [None, b"broken"]
    pq.write_table(pa.table({"image": images, "label": [0] * 10}), tmp_path / "x.parquet")
    config = DatasetConfig(name="parquet", path=str(tmp_path), per_class=9, max_bad=0.5)
    dataset = open_dataset(config)
    reasons: dict[str, str] = {}
    for split in ("train", "test"):
        subset = dataset.select(split)  # type: ignore[arg-type]
        subset = subset if len(subset) > 1 else dataset.select("train")
        subset.load((4, 4))
        reasons |= subset.skipped.reasons()
    assert set(reasons) <= {"x.parquet:00000008", "x.parquet:00000009"}
    assert reasons
