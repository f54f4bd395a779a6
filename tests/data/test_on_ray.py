"""Rows of a Ray data set: the same pixels as in process, and bad files counted over workers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import Subset, View, open_dataset
from zoo_search.data.pack import pack
from zoo_search.testing.sources import check_rows

pytestmark = pytest.mark.usefixtures("ray_cluster")


def random_png(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    shape = (int(rng.integers(5, 40)), int(rng.integers(5, 40)), 3)
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(80):
        path = tmp_path / "images" / f"class{i % 3}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random_png(i))
    return tmp_path / "images"


def collect(subset: Subset, view: View) -> dict[str, tuple[int, np.ndarray]]:
    found: dict[str, tuple[int, np.ndarray]] = {}
    for batch in subset.rows(view).iter_batches(batch_size=16, batch_format="numpy"):
        assert batch["image"].dtype == np.uint8
        for name, label, image in zip(batch["id"], batch["label"], batch["image"], strict=True):
            assert name not in found
            found[name] = (int(label), image)
    return found


def test_rows_are_what_load_gives(folder: Path, tmp_path: Path) -> None:
    digits = open_dataset(DatasetConfig(name="digits")).select("train", limit=150)
    check_rows(digits, View((16, 16)))
    uri = open_dataset(DatasetConfig(name="folder", path=f"file://{folder}"))
    check_rows(uri.select("train"), View((24, 16), "bilinear", 0.875))
    table = {"image": [random_png(i) for i in range(90)], "label": [i % 4 for i in range(90)]}
    pq.write_table(pa.table(table), tmp_path / "x.parquet", row_group_size=20)
    parquet = open_dataset(DatasetConfig(name="parquet", path=str(tmp_path / "x.parquet")))
    check_rows(parquet.select("train"), View((16, 16)))
    packed = pack(DatasetConfig(name="folder", path=str(folder)), tmp_path / "out", shard_mb=0.1)
    check_rows(open_dataset(packed.dataset).select("train"), View((16, 16)))


@pytest.mark.slow
def test_bad_files_are_counted_over_the_workers(folder: Path) -> None:
    for i in (3, 33):
        (folder / f"class{i % 3}" / f"{i}.png").write_bytes(b"broken")
    config = DatasetConfig(name="folder", path=str(folder), max_bad=0.05)
    subset = open_dataset(config.model_copy(update={"per_class": 26})).select("train")
    bad = {name for name in subset.ids if name in ("class0/3.png", "class0/33.png")}
    assert bad
    rows = collect(subset, View((8, 8)))
    assert set(rows) == set(subset.ids) - bad
    assert set(subset.skipped.reasons()) == bad


def test_too_many_bad_files_end_the_run(folder: Path) -> None:
    for path in sorted(folder.rglob("*.png"))[::4]:
        path.write_bytes(b"broken")
    subset = open_dataset(DatasetConfig(name="folder", path=str(folder))).select("train")
    with pytest.raises(UserError, match="images could not be decoded") as caught:
        collect(subset, View((8, 8)))
    message = str(caught.value.cause)  # type: ignore[attr-defined]  # Ray's wrapper holds ours
    assert message.endswith("or raise max_bad.")
    assert "\n" not in message
