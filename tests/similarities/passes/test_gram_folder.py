"""The Gram files of a run: those that can be used, and those that belong together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.similarities.estimators.registry import get_metric
from zoo_search.similarities.passes import gram_folder, grams


def put(store: RunStore, model: str, batch: int, ids: str) -> grams.Header:
    embedded = [get_metric("cka").embed(torch.randn(len(ids), 3))]
    header, data = grams.encode(model, "made", batch, list(ids), embedded, "float32")
    store.write_bytes(grams.path_of(model, batch), data)
    return header


def test_files_are_found_by_what_made_them(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    headers = {batch: put(store, "a", batch, "01234567") for batch in (4, 5)}
    found = gram_folder.find(store, {"a": "made", "b": "made"}, 6)
    assert found == {"a": headers, "b": {}}
    assert gram_folder.find(store, {"a": "made"}, 5) == {"a": {4: headers[4]}}
    assert gram_folder.find(store, {"a": "otherwise"}, 6) == {"a": {}}


def test_files_of_other_samples_are_refused_with_both_sides(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    a = put(store, "a", 0, "01234567")
    others = {
        "other ids": {0: put(store, "b", 0, "01234568")},
        "another size": {0: put(store, "b", 0, "0123456")},
        "missing": {1: put(store, "b", 1, "01234567")},
    }
    for b in others.values():
        with pytest.raises(
            UserError, match=r"'a' and 'b'.*grams/a/000000.*grams/b/000000"
        ) as error:
            gram_folder.check_same({"a": {0: a}, "b": b})
        assert "\n" not in str(error.value)
    gram_folder.check_same({"a": {0: a}, "b": {0: put(store, "b", 0, "01234567")}})


def test_what_belongs_to_no_model_and_no_batch_is_removed(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    for model, batch in (("a/b", 0), ("a/b", 7), ("gone", 0)):
        put(store, model, batch, "01234567")
    store.write_bytes("grams/loose.parquet", b"format 1 had one file a model")
    gram_folder.clean(store, ["a/b"], 2)
    assert store.list("grams") == ["a%2Fb"]
    assert store.list("grams/a%2Fb") == ["000000.parquet"]
