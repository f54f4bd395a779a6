"""Bits that change on a disk: found where the files are read, said, and made anew."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import create_trial

from zoo_search.cli.dashboard import serve
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.networks.fitter import Joint
from zoo_search.networks.stitch_files import FOLDER, StitchFiles
from zoo_search.reassembly.journal import StudyPlace, damaged_line, open_study
from zoo_search.similarities.estimators.registry import Embedding
from zoo_search.similarities.passes import grams
from zoo_search.similarities.passes.gram_folder import find

JOINT = Joint("a", 1, "b", 2)


def flips(size: int, count: int, seed: int) -> list[tuple[int, int]]:
    """Return places and masks of single bits, drawn without a pattern."""
    rng = np.random.default_rng(seed)
    return [(int(rng.integers(size)), 1 << int(rng.integers(8))) for _ in range(count)]


def flipped(data: bytes, place: int, mask: int) -> bytes:
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_no_changed_bit_of_a_gram_file_gives_other_vectors(dtype: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    store = RunStore(str(tmp_path))
    embedded = [Embedding(torch.randn(2, 30), torch.rand(2)) for _ in range(3)]
    header, data = grams.encode("m", "h", 0, ["x", "y"], embedded, dtype)
    name = grams.path_of("m", 0)
    store.write_bytes(name, data)
    rows, norms = grams.read(store, header)
    found = 0
    for place, mask in flips(len(data), 400, seed=1):
        store.write_bytes(name, flipped(data, place, mask))
        known = find(store, {"m": "h"}, 1)["m"].get(0)
        if known is None:  # it is made again
            found += 1
            continue
        try:
            again = grams.read(store, known)
        except UserError:
            found += 1
            continue
        assert known == header
        assert torch.equal(again[0], rows)
        assert torch.equal(again[1], norms)
    assert found > 200  # the values are most of the file


def test_a_gram_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    import io

    import pyarrow.parquet as pq

    store = RunStore(str(tmp_path))
    embedded = [Embedding(torch.randn(1, 8), torch.rand(1))]
    header, data = grams.encode("m", "h", 0, ["x"], embedded, "float32")
    table, sink = pq.read_table(io.BytesIO(data)), io.BytesIO()
    said = {b"zoo_search": table.schema.metadata[b"zoo_search"]}
    pq.write_table(table.replace_schema_metadata(said), sink)
    store.write_bytes(grams.path_of("m", 0), sink.getvalue())
    assert find(store, {"m": "h"}, 1)["m"] == {0: header}
    assert torch.equal(grams.read(store, header)[0], embedded[0].rows.unsqueeze(0))
    with pytest.raises(UserError, match="was replaced while it was in use"):
        grams.read(store, replace(header, made_from="i"))


def test_no_changed_bit_of_a_stitch_gives_another_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    files = StitchFiles(RunStore(str(tmp_path)), {"a": "1", "b": "2"}, "i")
    tensors = {"conv.weight": torch.randn(4, 3, 1, 1), "conv.bias": torch.randn(4)}
    files.put(JOINT, tensors, 0.5)
    (path,) = (tmp_path / FOLDER).iterdir()
    data = path.read_bytes()
    for place, mask in flips(len(data), 400, seed=2):
        path.write_bytes(flipped(data, place, mask))
        found = files.get(JOINT)
        if found is not None:
            assert found[1] == 0.5
            assert all(torch.equal(found[0][name], tensors[name]) for name in tensors)
    for size in range(len(data)):
        path.write_bytes(data[:size])
        assert files.get(JOINT) is None
    assert files.sweep() == 1
    assert not list((tmp_path / FOLDER).iterdir())


def study(place: Path) -> None:
    kept = open_study(StudyPlace(place, "made"))
    for score in (1.5, 2.25, math.nan):
        attributes = {"recipe": {"a": [1, 2]}, "params": 10}
        kept.add_trial(
            create_trial(values=[score, 0.25], user_attrs=attributes)
            if score == score
            else create_trial(state=optuna.trial.TrialState.FAIL, user_attrs=attributes)
        )


def test_no_changed_bit_of_a_journal_gives_another_study(tmp_path: Path) -> None:
    place = tmp_path / "study.journal"
    study(place)
    data = place.read_bytes()
    assert damaged_line(place) is None
    lines = [json.loads(line) for line in data.splitlines()]
    for at, mask in flips(len(data), 400, seed=3):
        place.write_bytes(flipped(data, at, mask))
        number = damaged_line(place)
        if number is None:  # then nothing but the check itself, or what JSON passes over, changed
            again = [json.loads(line) for line in place.read_bytes().splitlines()]
            ours = [
                {k: v for k, v in log.items() if k in old}
                for log, old in zip(again, lines, strict=True)
            ]
            for mine, old in zip(ours, lines, strict=True):
                assert {**old, **mine} == old


def test_a_search_begins_anew_on_a_damaged_journal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "study.journal"
    study(place)
    data = place.read_bytes()
    place.write_bytes(data.replace(b"2.25", b"9.25"))
    with pytest.raises(UserError, match=r"Line \d+ of .* is damaged"):
        serve(str(tmp_path), 0)
    again = open_study(StudyPlace(place, "made"))
    assert again.trials == []
    assert "is damaged: the search begins anew" in " ".join(capsys.readouterr().err.split())
    place.write_bytes(data)
    assert [trial.values[0] for trial in open_study(StudyPlace(place, "made")).best_trials] == [
        2.25
    ]


def test_a_journal_of_an_earlier_version_is_believed(tmp_path: Path) -> None:
    place = tmp_path / "study.journal"
    study(place)
    logs = [json.loads(line) for line in place.read_bytes().splitlines()]
    old = [{key: value for key, value in log.items() if key != "check"} for log in logs]
    place.write_text("".join(json.dumps(log) + "\n" for log in old))
    assert len(open_study(StudyPlace(place, "made")).trials) == 3
