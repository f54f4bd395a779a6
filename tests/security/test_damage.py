"""Bits that change on a disk: found where the files are read, said, and made anew."""

from __future__ import annotations

import io
import json
import math
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pytest
import torch
from optuna.trial import create_trial
from safetensors.torch import save_file

from zoo_search.cli.dashboard import serve
from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.data import open_dataset
from zoo_search.export.config import with_checks
from zoo_search.finetune.trained import earlier_winners, read_predictions, write_predictions
from zoo_search.networks.fitter import Joint
from zoo_search.networks.stitch_files import FOLDER, StitchFiles
from zoo_search.partitions.result import load_partitions
from zoo_search.reassembly.candidates import from_table
from zoo_search.reassembly.journal import StudyPlace, damaged_line, open_study
from zoo_search.similarities.estimators.registry import Embedding
from zoo_search.similarities.passes import grams
from zoo_search.similarities.passes.gram_folder import find
from zoo_search.zoo.checkpoint import state_sha256

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


@pytest.fixture
def winner(tmp_path: Path) -> RunStore:
    """A run directory with the folder of one winner, as far as a later run reads it."""
    store, folder = RunStore(str(tmp_path)), tmp_path / "winners/0"
    folder.mkdir(parents=True)
    state = {"w": torch.arange(4.0)}
    save_file(state, folder / "model.safetensors")
    write_predictions(folder, ["x", "y"], np.array([0, 1]), {0: np.array([0, 0])})
    protocol = {"test_accuracy": 0.5, "trainable_params": 4, "seconds": 1.0, "curve": []}
    facts = {
        "name": "n", "role": "single", "params": 4, "macs": 4, "scores": {}, "folder": "winners/0",
        "recipe": {"blocks": [{"model": "a", "start": 0, "stop": 1}]}, "exported": 0,
        "trainings": [{"seed": 0, "fold": None, "protocols": {"full": protocol}, "task": "t"}],
        "retrained": [], "init": [], "of": None, "tuned": {}, "state_sha256": state_sha256(state),
    }  # fmt: skip
    config: Any = {"metadata": facts}
    told = json.dumps(with_checks(config, "", ""), indent=1)
    (folder / "config.json").write_text(told)
    return store


def test_no_changed_digit_of_a_winner_is_taken_over(
    winner: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its accuracy would stand in the next report."""
    assert earlier_winners(winner) == {"t": "winners/0"}
    text = winner.read_text("winners/0/config.json")
    winner.write_text("winners/0/config.json", text.replace('accuracy": 0.5', 'accuracy": 0.9'))
    assert earlier_winners(winner) == {}
    said = " ".join(capsys.readouterr().err.split())
    assert "winners/0 is not as it was written" in said


def test_no_changed_bit_of_predictions_is_taken_over(winner: RunStore) -> None:
    name = "winners/0/predictions.parquet"
    winner.record("finetune", "x", [name], seconds=1)
    data = winner.read_bytes(name)
    for place, mask in flips(len(data), 100, seed=3):
        Path(winner.path(name)).write_bytes(flipped(data, place, mask))
        assert earlier_winners(winner) == {}


def test_no_changed_prediction_is_read_where_nothing_is_recorded(winner: RunStore) -> None:
    """The user was told to remove a damaged manifest."""
    name = "winners/0/predictions.parquet"
    before, data = read_predictions(winner, "winners/0"), winner.read_bytes(name)
    for place, mask in flips(len(data), 400, seed=4):
        winner.write_bytes(name, flipped(data, place, mask))
        try:
            said = read_predictions(winner, "winners/0")
        except (UserError, OSError, ValueError, pa.ArrowException):
            continue
        if said.column_names == before.column_names:
            assert said.num_rows != 2 or said.equals(before)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "[" * 100_000, '{"metadata": []}', '{"metadata": "x"}', "{}"]
)
def test_a_winner_of_another_shape_is_trained_again(winner: RunStore, text: str) -> None:
    winner.write_text("winners/0/config.json", text)
    assert earlier_winners(winner) == {}


def test_a_line_that_is_nested_too_deep_is_a_bad_line(tmp_path: Path) -> None:
    (tmp_path / "study.journal").write_text("[" * 100_000 + "\n")
    assert damaged_line(tmp_path / "study.journal") == 1
    with pytest.raises(UserError, match=r"Line 1 of .* is damaged"):
        serve(str(tmp_path), 0)


def test_a_label_that_is_nested_too_deep_is_none(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in (("0.png", b"x"), ("0.json", b"[" * 100_000)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with pytest.raises(UserError, match="has no label"):
        open_dataset(DatasetConfig(name="webdataset", path=str(tmp_path)), 0)


def test_tables_with_facts_that_are_nested_too_deep_are_refused(tmp_path: Path) -> None:
    deep = {b"zoo_search": b"[" * 100_000}
    table = pa.table({"id": pa.array([0])}).replace_schema_metadata(deep)
    with pytest.raises(UserError, match="too deep"):
        from_table(table)
    with pytest.raises(ValueError, match="too deep"):
        grams.header_in(deep)
    (tmp_path / "partition.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="too deep"):
        load_partitions(tmp_path / "partition.json")
