"""The similarity table and its file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zoo_search.core.errors import UserError
from zoo_search.similarities import ModelCuts, SimilarityTable

MODELS = {
    "b": ModelCuts(["image", "stem", "layer1.0"], [10, 20], [100, 200]),
    "a": ModelCuts(["image", "blocks.0"], [5], [6]),
}


@pytest.fixture
def table() -> SimilarityTable:
    values = np.random.default_rng(0).uniform(-0.1, 1, (5, 5)).astype(np.float32)
    np.fill_diagonal(values, 1)
    return SimilarityTable(MODELS, values, {"metric": "cka", "samples": 64, "batch_size": 32})


def rewrite(path: Path, rows: pa.Table, header: dict | None) -> None:
    metadata = None if header is None else {"zoo_search": json.dumps(header)}
    pq.write_table(rows.replace_schema_metadata(metadata), path)


def header_of(path: Path) -> dict:
    return json.loads(pq.read_schema(path).metadata[b"zoo_search"])


def test_round_trip(table: SimilarityTable, tmp_path: Path) -> None:
    table.save(tmp_path / "new" / "similarity.parquet")
    found = SimilarityTable.load(tmp_path / "new" / "similarity.parquet")
    assert found.models == table.models
    assert list(found.models) == ["b", "a"]
    assert found.metadata == table.metadata
    assert (found.values == table.values).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["similarity.parquet"]


def test_file_format(table: SimilarityTable, tmp_path: Path) -> None:
    """What other programs rely on, read without our own reader."""
    path = tmp_path / "similarity.parquet"
    table.save(path)
    rows = pq.read_table(path)
    assert [(f.name, str(f.type)) for f in rows.schema] == [
        ("model_a", "string"),
        ("cut_a", "int32"),
        ("model_b", "string"),
        ("cut_b", "int32"),
        ("value", "float"),
    ]
    keys = {
        (r["model_a"], r["cut_a"], r["model_b"], r["cut_b"]): r["value"] for r in rows.to_pylist()
    }
    assert len(keys) == rows.num_rows == 25
    assert keys["b", 2, "a", 1] == np.float32(table.value("b", 2, "a", 1)) == table.values[2, 4]
    assert keys["a", 1, "a", 1] == 1
    header = header_of(path)
    assert header["format"] == 1
    assert header["metric"] == "cka"
    assert header["models"]["a"] == {"cuts": ["image", "blocks.0"], "params": [5], "macs": [6]}


def test_block_and_value(table: SimilarityTable) -> None:
    assert table.block("b", "a").shape == (3, 2)
    assert table.block("b", "a")[1, 0] == table.value("b", 1, "a", 0)
    with pytest.raises(UserError, match="Did you mean 'b'"):
        SimilarityTable({"b": MODELS["b"]}, np.eye(3)).block("bb", "b")
    with pytest.raises(IndexError):
        table.value("b", -1, "a", 0)


def test_rows_may_come_in_any_order(table: SimilarityTable, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table.save(path)
    rows, header = pq.read_table(path), header_of(path)
    rewrite(path, rows.take(np.random.default_rng(0).permutation(25)), header)
    assert (SimilarityTable.load(path).values == table.values).all()


def test_a_uri(table: SimilarityTable) -> None:
    table.save("memory://here/similarity.parquet")
    assert (SimilarityTable.load("memory://here/similarity.parquet").values == table.values).all()


def test_foreign_and_broken_files_are_refused(table: SimilarityTable, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(UserError, match="cannot be read"):
        SimilarityTable.load(path)
    path.write_bytes(b"PAR1 no parquet")
    with pytest.raises(UserError, match="no readable Parquet"):
        SimilarityTable.load(path)
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(UserError, match="lacks the columns model_a"):
        SimilarityTable.load(path)
    table.save(path)
    rows, header = pq.read_table(path), header_of(path)
    rewrite(path, rows, None)
    with pytest.raises(UserError, match="lacks the metadata"):
        SimilarityTable.load(path)
    rewrite(path, rows, {**header, "format": 2})
    with pytest.raises(UserError, match="format is not 1"):
        SimilarityTable.load(path)
    rewrite(path, rows.slice(1), header)
    with pytest.raises(UserError, match="24 rows"):
        SimilarityTable.load(path)
    twice = pa.concat_tables([rows.slice(1), rows.slice(2, 1)])
    rewrite(path, twice, header)
    with pytest.raises(UserError, match="distinct"):
        SimilarityTable.load(path)
    rewrite(path, rows, {**header, "models": {"b": header["models"]["b"]}})
    with pytest.raises(UserError, match="'a'"):
        SimilarityTable.load(path)
    nan = rows.set_column(4, "value", pa.array([float("nan")] * 25, pa.float32()))
    rewrite(path, nan, header)
    with pytest.raises(UserError, match="finite"):
        SimilarityTable.load(path)


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match="values must be"):
        SimilarityTable(MODELS, np.eye(4))
    with pytest.raises(ValueError, match="2 cuts need 1 nodes"):
        ModelCuts(["image", "x"], [1, 2], [1])


def test_reading_a_file_imports_neither_pandas_nor_torch(
    table: SimilarityTable, tmp_path: Path
) -> None:
    table.save(tmp_path / "t.parquet")
    code = (
        "import sys\n"
        "from zoo_search.similarities.table import SimilarityTable\n"
        "from zoo_search.partitions.step import partition_table\n"
        f"print(len(SimilarityTable.load({str(tmp_path / 't.parquet')!r}).values))\n"
        "print([m for m in ('pandas', 'pyarrow.dataset', 'torch', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["5", "[]"], done.stderr
