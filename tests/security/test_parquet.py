"""Parquet with pickled objects: refused where it is read, by whatever reads it, before any value.

``ray.data`` registers the type, so that a process that has imported it would unpickle.
"""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data  # noqa: F401  # registers the extension types, as every run does
import yaml
from attacks import Command, Ended, Touch
from small_images import png

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.core.parquet import check_arrow_stream, open_parquet
from zoo_search.core.store import RunStore
from zoo_search.data import open_dataset

OBJECT = "ray.data.arrow_pickled_object"
NAME = b"ARROW:extension:name"


def pickles(values: list[object]) -> pa.Array:
    """Return a column of objects as Ray Data keeps them."""
    from ray.data.extensions import ArrowPythonObjectType

    storage = pa.array([pickle.dumps(value) for value in values], pa.large_binary())
    return pa.ExtensionArray.from_storage(ArrowPythonObjectType(), storage)


def clean(rows: int = 12) -> dict[str, object]:
    return {
        "image": [png(i) for i in range(rows)],
        "label": ["ant" if i % 2 else "bee" for i in range(rows)],
    }


def evil(where: str, marker: Path, rows: int = 12) -> pa.Table:
    """Return a data set with a column of objects that run code when they are looked at."""
    columns, bad = clean(rows), pickles([Touch(marker)] * rows)
    if where == "inside the image":
        columns["image"] = pa.StructArray.from_arrays([bad], ["bytes"])
    elif where == "in a list":
        columns["more"] = pa.ListArray.from_arrays(pa.array(range(rows + 1), pa.int32()), bad)
    elif where == "metadata of the type":
        kind = pa.field("more", pa.list_(pa.float32()), metadata={
            NAME: b"ray.data.arrow_tensor", b"ARROW:extension:metadata": pickle.dumps(Touch(marker))
        })  # fmt: skip
        table = pa.table(columns)
        return table.append_column(kind, pa.array([[1.0]] * rows, kind.type))
    else:
        columns[where] = bad
    return pa.table(columns)


PLACES = [
    "image", "label", "split", "more", "inside the image", "in a list", "metadata of the type",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "images"
    place.mkdir()
    return place


def test_the_attack_is_real(marker: Path) -> None:
    """What is refused below does run when it is read as it used to be."""
    sink = io.BytesIO()
    pq.write_table(evil("label", marker), sink)
    pq.ParquetFile(sink).read()["label"].to_pylist()
    assert marker.exists()


@pytest.mark.parametrize("where", PLACES)
def test_a_foreign_data_set_is_refused(
    command: Command, folder: Path, marker: Path, where: str
) -> None:
    pq.write_table(pa.table(clean()), folder / "a.parquet")
    pq.write_table(evil(where, marker), folder / "b.parquet")
    ended = command("data", "pack", folder, folder.parent / "out", "--name", "parquet")
    kind = "ray.data.arrow_tensor" if where == "metadata of the type" else OBJECT
    assert ended.refused("b.parquet is refused", f"({kind})")
    assert not marker.exists()


@pytest.mark.parametrize("where", ["image", "inside the image", "metadata of the type"])
def test_a_file_that_is_swapped_is_refused_where_it_is_read(
    folder: Path, marker: Path, where: str
) -> None:
    """Listed clean, changed before its images are read: the reader itself looks at it."""
    file = folder / "a.parquet"
    pq.write_table(pa.table(clean()), file)
    subset = open_dataset(DatasetConfig(name="parquet", path=str(folder))).select("train")
    reader = pickle.loads(pickle.dumps(subset.reader))  # as it travels to the workers
    pq.write_table(evil(where, marker), file)
    with pytest.raises(UserError, match=r"a\.parquet is refused"):
        list(reader.read(subset.ids))
    assert not marker.exists()


def test_other_values_than_those_that_were_listed_are_refused(folder: Path) -> None:
    file = folder / "a.parquet"
    pq.write_table(pa.table(clean()), file)
    subset = open_dataset(DatasetConfig(name="parquet", path=str(folder))).select("train")
    pq.write_table(pa.table({**clean(), "image": list(range(12))}), file)
    with pytest.raises(UserError, match="was replaced while it was in use"):
        subset.load((4, 4))


@pytest.mark.usefixtures("ray_cluster")
def test_the_workers_of_ray_data_refuse(folder: Path, marker: Path) -> None:
    file = folder / "a.parquet"
    pq.write_table(pa.table(clean()), file)
    rows = (
        open_dataset(DatasetConfig(name="parquet", path=str(folder))).select("train").rows((4, 4))
    )
    pq.write_table(evil("image", marker), file)
    with pytest.raises(Exception, match=r"a\.parquet is refused"):
        rows.take_all()
    assert not marker.exists()


@pytest.mark.parametrize(
    "labels",
    [pa.array([1.5, 2.5]), pa.array([[1], [2]]), pa.array([b"a", b"b"]), pa.array([True, False])],
)
def test_labels_are_integers_or_strings(command: Command, folder: Path, labels: pa.Array) -> None:
    pq.write_table(pa.table({"image": [png(0), png(1)], "label": labels}), folder / "a.parquet")
    ended = command("data", "pack", folder, folder.parent / "out", "--name", "parquet")
    assert ended.refused("a.parquet", "'label'", "integers and strings")


def test_plain_columns_of_every_kind_are_read(folder: Path) -> None:
    labels = pa.array(["ant", "bee"] * 6).dictionary_encode()
    images = pa.array(clean()["image"], pa.large_binary())
    pq.write_table(pa.table({"image": images, "label": labels}), folder / "a.parquet")
    dataset = open_dataset(DatasetConfig(name="parquet", path=str(folder)))
    assert dataset.classes == ("ant", "bee")
    assert len(dataset.select("train").load((4, 4))) == len(dataset.select("train"))


def test_a_foreign_table_of_candidates_is_refused(tmp_path: Path, marker: Path) -> None:
    from zoo_search.reassembly import step

    sink = io.BytesIO()
    pq.write_table(pa.table({"recipe": pickles([Touch(marker)])}), sink)
    (tmp_path / "candidates.parquet").write_bytes(sink.getvalue())
    with pytest.raises(UserError, match=r"candidates\.parquet is refused.*'recipe'"):
        step.read(RunStore(tmp_path))
    assert not marker.exists()


def test_a_foreign_similarity_table_is_refused(
    command: Command, zoo_table: Callable[..., object], tmp_path: Path, marker: Path
) -> None:
    file = tmp_path / "similarity.parquet"
    zoo_table([4, 5]).save(file)  # type: ignore[attr-defined]
    table = pq.read_table(file)
    pq.write_table(table.append_column("more", pickles([Touch(marker)] * len(table))), file)
    assert command("partition", "--similarity", file, "-k", 2).refused(str(file), OBJECT)
    assert not marker.exists()


def test_a_foreign_index_of_shards_is_refused(
    command: Command, folder: Path, tmp_path: Path, marker: Path
) -> None:
    pq.write_table(pa.table(clean()), folder / "a.parquet")
    assert command("data", "pack", folder, tmp_path / "out", "--name", "parquet").code == 0
    index = tmp_path / "out" / "index.parquet"
    table = pq.read_table(index)
    column = pickles([Touch(marker)] * len(table))
    pq.write_table(table.set_column(6, "source", column), index)
    ended = command("data", "pack", tmp_path / "out", tmp_path / "two", "--name", "webdataset")
    assert ended.refused("index.parquet is refused", OBJECT)
    assert not marker.exists()


def test_foreign_predictions_and_gram_files_are_refused(tmp_path: Path, marker: Path) -> None:
    from zoo_search.finetune.trained import read_predictions
    from zoo_search.similarities.passes import gram_folder, grams

    store = RunStore(tmp_path)
    bad = pickles([Touch(marker)])
    for name, columns in {
        "winners/0/predictions.parquet": {"id": ["a"], "label": bad},
        grams.path_of("m", 0): {"cut": [0], "part": [0], "norm": bad, "gram": [b""]},
    }.items():
        sink = io.BytesIO()
        pq.write_table(pa.table(columns), sink)
        store.write_bytes(name, sink.getvalue())
    with pytest.raises(UserError, match=r"predictions\.parquet is refused.*'label'"):
        read_predictions(store, "winners/0")
    header = grams.Header("m", 0, "", 1, "", 1, 1, 1, "float32")
    with pytest.raises(UserError, match=r"is refused.*'norm'"):
        grams.read(store, header)
    assert gram_folder.find(store, {"m": ""}, 1) == {"m": {}}  # it is made anew
    assert not marker.exists()


def test_hugging_face_sets_on_disk_are_refused(
    command: Command, folder: Path, tmp_path: Path, marker: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])}
    )
    rows = {"image": [{"bytes": png(i), "path": None} for i in range(12)], "label": [0, 1] * 6}
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": made}).save_to_disk(str(folder))
    assert command("data", "pack", folder, tmp_path / "good", "--name", "hf:x").code == 0
    (file,) = (folder / "train").glob("*.arrow")
    with pa.memory_map(str(file)) as source:
        table = pa.ipc.open_stream(source).read_all()
    table = table.set_column(1, "label", pickles([Touch(marker)] * 12))
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    ended = command("data", "pack", folder, tmp_path / "bad", "--name", "hf:x")
    assert ended.refused(file.name, f"'label' ({OBJECT})")
    assert not marker.exists()


def test_torchvisions_own_pickle_is_not_read(
    command: Command, folder: Path, tmp_path: Path, marker: Path
) -> None:
    """LSUN keeps the keys of its database in ``_cache_LETTERS``, and unpickles what is there."""
    place = folder / "bedroom_train_lmdb"
    place.mkdir()
    name = "_cache_" + "".join(c for c in str(place) if c.isalpha())
    (place / name).write_bytes(pickle.dumps(Touch(marker)))
    ended = command("data", "pack", folder, tmp_path / "out", "--name", "torchvision:LSUN")
    assert ended.refused("torchvision's LSUN", "unpickles")
    assert not marker.exists()


def with_schema(
    value: bytes, *, before: bytes = b"\x18\x0cARROW:schema\x18", end: bytes = b"\0"
) -> bytes:
    """Return a file that ends as a Parquet file does, with such metadata."""
    size = len(value) & 0x7F | 0x80, len(value) >> 7
    footer = before + bytes(size) + value + end
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"


@pytest.mark.parametrize(
    "data",
    [
        with_schema(b"!" * 200),
        with_schema(b"A" * 200, before=b"\x18\x0cARROW:schema\x08\x04"),
        with_schema(b"A" * 200, end=b"\x18"),
        with_schema(b"A" * 200)[:-40] + (100).to_bytes(4, "little") + b"PAR1",
    ],
    ids=["no base64", "value under another number", "two values", "cut short"],
)
def test_a_schema_that_is_hidden_is_refused(data: bytes) -> None:
    with pytest.raises((UserError, pa.ArrowException, OSError), match=r"cannot be read|thrift"):
        open_parquet(data, "x.parquet")


def test_what_arrow_calls_extensions_of_its_own_is_refused_with_its_name() -> None:
    sink = io.BytesIO()
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 2, 2), np.float32))
    pq.write_table(pa.table({"image": tensor}), sink)
    with pytest.raises(UserError, match=r"'image' \(arrow\.fixed_shape_tensor\)"):
        open_parquet(sink.getvalue(), "x.parquet")


def test_a_stream_is_looked_at_before_arrow_opens_it(marker: Path) -> None:
    for data in (
        b"",
        b"ARROW1\0\0",
        b"\xff\xff\xff\xff",
        b"\xff\xff\xff\xff\x00\x00\x00\x7f" + b"a" * 99,
    ):
        with pytest.raises(UserError, match="no Arrow file in the stream format"):
            check_arrow_stream(io.BytesIO(data), "x.arrow")
    sink = io.BytesIO()
    table = evil("in a list", marker)
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    with pytest.raises(UserError, match=r"'more\.\w+' \(ray\.data"):
        check_arrow_stream(io.BytesIO(sink.getvalue()), "x.arrow")
    assert not marker.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("private_home")
def test_an_ordinary_similarity_run_refuses(folder: Path, marker: Path) -> None:
    """The run of the audit, in a process of its own: two models, images from elsewhere.

    Where Ray Data is not imported yet the column looks like plain bytes, which the reader would
    then look at where it is.
    """
    pq.write_table(evil("image", marker, 100), folder / "a.parquet")
    entry = {"arch": "lcnet_050", "weights": None}
    job = {
        "name": "x",
        "input_size": 32,
        "init": "random",
        "zoo": {"a": entry, "b": entry},
        "dataset": {"name": "parquet", "path": str(folder)},
        "similarity": {"fraction": 1.0},
    }
    file = folder.parent / "job.yaml"
    file.write_text(yaml.safe_dump(job))
    words = [sys.executable, "-m", "zoo_search", "similarity", str(file)]
    ended = subprocess.run(
        [*words, "--dir", str(folder.parent / "run")], capture_output=True, text=True, check=False
    )
    assert Ended(ended.returncode, ended.stderr).refused(
        "a.parquet is refused", f"'image' ({OBJECT})"
    ), ended.stderr
    assert not marker.exists()
