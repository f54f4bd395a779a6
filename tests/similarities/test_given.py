"""A table that a zoo brings along: the part that is taken of it, and what is refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.similarities import ModelCuts, SimilarityTable
from zoo_search.similarities.given import read_given, write_given

MODELS = {
    "a": ModelCuts(["image", "stem", "layer1.0"], [10, 20], [100, 200]),
    "b": ModelCuts(["image", "blocks.0"], [5], [6]),
    "c": ModelCuts(["image", "blocks.0", "blocks.1", "norm"], [5, 6, 7], [6, 7, 8]),
}


@pytest.fixture
def path(tmp_path: Path) -> str:
    values = np.random.default_rng(0).uniform(0, 1, (9, 9)).astype(np.float32)
    metadata = {
        "metric": "cka",
        "samples": 64,
        "dataset": "f",
        "source": {"name": "imagenet"},
        "grams": {"a": "x"},
    }
    place = tmp_path / "given.parquet"
    SimilarityTable(MODELS, values, metadata).save(place)
    return str(place)


def test_the_part_of_a_larger_table_in_the_order_of_the_zoo(path: str, tmp_path: Path) -> None:
    zoo = {"c": replace(MODELS["c"], macs=[1, 2, 3]), "a": MODELS["a"]}  # another input size
    store = RunStore(tmp_path / "run")
    told = write_given(read_given(path, list(zoo)), zoo, store)
    assert told == f"taken from {path}: cka on 64 images of imagenet"
    whole, found = (
        SimilarityTable.load(path),
        SimilarityTable.load(store.path("similarity.parquet")),
    )
    assert found.models == zoo
    assert list(found.models) == ["c", "a"]
    for one in zoo:
        for other in zoo:
            for i in range(len(zoo[one].cuts)):
                for j in range(len(zoo[other].cuts)):
                    assert found.value(one, i, other, j) == whole.value(one, i, other, j)
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert found.metadata == {
        "metric": "cka",
        "samples": 64,
        "dataset": "f",
        "source": {"name": "imagenet"},
        "given": {"sha256": sha256},
    }


@pytest.mark.parametrize(
    ("zoo", "told"),
    [
        (
            MODELS | {"d": MODELS["b"], "e": MODELS["b"]},
            "lacks 'd' and 'e' of the zoo; it holds a, b, c",
        ),
        ({"c": MODELS["a"]}, "with the model 'c' of this zoo: it has 4 cuts there and 3 here"),
        (
            {"a": replace(MODELS["a"], cuts=["image", "stem", "layer2.0"])},
            "'a' of this zoo: its cut 2 is 'layer1.0' there and 'layer2.0' here",
        ),
        (
            {"a": replace(MODELS["a"], params=[10, 2000])},
            "'a' of this zoo: its node 1 ('layer1.0') has 20 parameters there, 2,000 here",
        ),
    ],
)  # fmt: skip
def test_a_model_that_is_missing_or_differs_is_named(
    path: str, zoo: dict[str, ModelCuts], told: str, tmp_path: Path
) -> None:
    store = RunStore(tmp_path / "run")
    with pytest.raises(UserError) as caught:
        write_given(read_given(path, list(zoo)), zoo, store)
    text = str(caught.value)
    for part in (f"similarity.table: {path}", told, "must hold every model", "or leave out"):
        assert part in text
    assert "\n" not in text
    assert not store.exists("similarity.parquet")


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^similarity.table: .*none\.parquet.*relative path"):
        read_given(str(tmp_path / "none.parquet"), ["a"])
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(UserError, match=r"^similarity.table: .*is no similarity table"):
        read_given(str(tmp_path / "text.parquet"), ["a"])
