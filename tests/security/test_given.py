"""What strangers' folders, weights, addresses and studies ask of the commands that read them."""

from __future__ import annotations

import csv
import json
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import optuna
import pytest
import timm
import torch
import yaml
from attacks import Command
from optuna.trial import create_trial
from PIL import Image

import zoo_search as zs
from zoo_search.cli.jobs.words import plain as _words
from zoo_search.core.errors import Note, UserError
from zoo_search.core.files import fetched, name_of_copy
from zoo_search.core.version import MARK
from zoo_search.costs.budget import Budget
from zoo_search.export import save_folder
from zoo_search.inference.predict import Predicted
from zoo_search.networks import Recipe
from zoo_search.reassembly.known import Known, budget_to_json
from zoo_search.run.draft.text import entry
from zoo_search.zoo import load_zoo
from zoo_search.zoo.checkpoint import read_checkpoint, state_sha256


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported network, and an image beside it."""
    entry = {"arch": "lcnet_050", "weights": None}
    job = {"name": "x", "input_size": 32, "zoo": {"a": entry}, "dataset": "digits"}
    zoo = load_zoo({**job, "init": "random"})
    recipe = Recipe.whole("a", len(zoo["a"].graph))
    net = zs.assemble(recipe, zoo, init="random", num_classes=2)
    place = tmp_path_factory.mktemp("made")
    save_folder(net, place / "0", recipe=recipe, zoo=zoo, classes=("x", "y"), metadata={})
    Image.new("RGB", (8, 8)).save(place / "a.png")
    return place


@pytest.fixture
def said(made: Path, tmp_path: Path) -> Callable[[str, object], Path]:
    """A function that lets a winner's folder say something else, by the keys that lead there."""

    def change(keys: str, value: object) -> Path:
        folder = tmp_path / "winner"
        folder.mkdir()
        for path in (made / "0").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        config = json.loads((folder / "config.json").read_text())
        del config["checks"]  # as who has a hand in it would
        *outer, last = keys.split(".")
        inside = config
        for key in outer:
            inside = inside[key]
        inside[last] = value
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return change


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ("classes", ["\ud800", "y"]),
        ("input_size", []),
        ("parents.a.input_size", [3]),
        ("parents.a.kwargs", {"num_classes": float("nan")}),
        ("preprocess.mean", [float("nan")] * 3),
        ("preprocess.std", [0, 0, 0]),
        ("preprocess.size", [100_000, 100_000]),
        ("preprocess.crop_pct", 1e-9),
    ],
)
def test_what_a_winner_says_of_itself_is_looked_at(
    keys: str,
    value: object,
    said: Callable[[str, object], Path],
    made: Path,
    tmp_path: Path,
    command: Command,
) -> None:
    out = tmp_path / "out.csv"
    assert command("predict", said(keys, value), made / "a.png", "--out", out).refused()
    assert not out.exists()


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t"])
def test_no_name_in_a_csv_file_is_a_formula(sign: str, tmp_path: Path) -> None:
    name = f"{sign}cmd|' /C calc'!A1\r=2"
    found = Predicted("w", (name, "y"), (name,), np.array([[0.75, 0.25]], np.float32), {})
    found.save(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        _, row = csv.reader(file)
    cell = "'" + name.replace("\r", "\\r")
    assert row == [cell, cell, "0.75", "0.75", "0.25"]
    assert found.table()["class"].to_pylist() == [name]


@pytest.mark.parametrize("path", ["~nobody/images", "x" * 5000, "hf:" + "x" * 5000])
def test_paths_that_lead_nowhere_are_said(path: str, made: Path, command: Command) -> None:
    assert command("evaluate", made / "0", "--data", path).refused()
    assert command("init", path).refused("is not there")


@pytest.mark.parametrize("path", ["~\0", "a\0b", "~nobody/w.pth", "x" * 5000])
def test_paths_of_a_run_file_that_lead_nowhere_are_said(path: str) -> None:
    entry = {"arch": "lcnet_050", "weights": path}
    with pytest.raises(UserError, match="there is no file"):
        load_zoo({"name": "x", "zoo": {"a": entry}, "dataset": "digits"})


class Made:
    """Is unpickled as the call of a function, a state and entries."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


def hidden(name: str) -> torch.Tensor:
    tensor = torch.ones(2)
    setattr(tensor, name, 1)
    return tensor


@pytest.mark.parametrize(
    "state",
    [
        {"w": hidden("detach")},
        {"w": torch.nn.Parameter(hidden("cpu"))},
        Made(OrderedDict, (), {"items": 1}, None, iter([("w", torch.ones(2))])),
    ],
)
def test_a_checkpoint_hides_no_method(state: object, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "w.pth")
    found = read_checkpoint(tmp_path / "w.pth", "here")[""]
    assert state_sha256(found) == state_sha256({"w": torch.ones(2)})


def test_what_lies_beside_the_weights_may_be_anything(tmp_path: Path) -> None:
    """Sparse tensors, and those without values, are told of only where a network needs them."""
    state = timm.create_model("lcnet_050").state_dict()
    odd = {"m": torch.empty(2, device="meta"), "s": torch.ones(2).to_sparse()}
    torch.save({**state, **odd}, tmp_path / "w.pth")
    entry = {"arch": "lcnet_050", "weights": str(tmp_path / "w.pth")}
    zoo = load_zoo({"name": "a", "dataset": "digits", "zoo": {"m": entry}})
    assert state_sha256(zoo["m"].module.state_dict()) == state_sha256(state)


def nested(ways: int) -> Mapping[str, object]:
    inside: Mapping[str, object] = {"w": torch.ones(2)}
    for _ in range(8):
        inside = {str(way): inside for way in range(ways)}
    return inside


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"w": torch.ones(1).expand(10**12)}, "repeated to 4000.0 GB"),
        (nested(10), "mappings inside each other"),
    ],
)
def test_a_small_checkpoint_asks_for_little(state: object, words: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").stat().st_size < 10_000
    with pytest.raises(UserError, match=words):
        read_checkpoint(tmp_path / "w.pth", "here")


def test_a_packed_checkpoint_is_not_unpacked(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2**25)}, tmp_path / "w.pth")
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as whole,
        zipfile.ZipFile(tmp_path / "p.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(UserError, match=r"would unpack to 0\.1 GB"):
        read_checkpoint(tmp_path / "p.pth", "here")


@pytest.mark.parametrize("name", ["..", ".", "x" * 300, "w?sig=/SECRET", "w#/SECRET"])
def test_copies_of_an_address_lie_in_a_folder_of_their_own(name: str) -> None:
    root = f"/attack/{name}"
    fs = fsspec.filesystem("memory")
    fs.store[f"{root}/config.json"] = fs.store[root] = None
    with fetched(f"memory:/{root}", ()) as copy:
        own = Path(tempfile.gettempdir()).resolve()
        assert copy.resolve().parent.parent == own
        assert "SECRET" not in copy.name
    fs.store.clear()


def test_the_copy_of_weights_is_called_as_they_are() -> None:
    assert name_of_copy("https://host/w.pth?sig=A/SECRET#x/y") == "w.pth"
    assert name_of_copy("zip://w.pth::https://host/a.zip?sig=A/SECRET") == "a.zip"


def test_a_run_directory_of_a_later_format_is_not_read(
    made: Path, tmp_path: Path, command: Command
) -> None:
    winner = tmp_path / "winners" / "0"
    winner.mkdir(parents=True)
    for path in (made / "0").iterdir():
        (winner / path.name).write_bytes(path.read_bytes())
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "winners.json").write_text("{}")
    (tmp_path / "study.journal").write_text("")
    (tmp_path / MARK).write_text(json.dumps({"format": 2, "made_by": "9.0"}))
    for words in (
        ("dashboard", tmp_path),
        ("export", winner, "--torch"),
        ("predict", tmp_path, made / "a.png"),
        ("evaluate", tmp_path, "--data", "digits"),
    ):
        assert command(*words).refused("9.0, in a later format"), words
    assert not (tmp_path / "exports").exists()


def test_the_log_of_a_job_steers_no_terminal() -> None:
    sent = "\x1b[36m(pid=1)\x1b[0m a\r\nb\rs3://KEY:SECRET@bucket \x1b[2J\x1b]0;title\x07\n"
    assert _words(sent) == "(pid=1) a\nb\ns3://***@bucket \\x1b[2J\\x1b]0;title\\x07"


BUDGET = budget_to_json(Budget())
RECIPE = {"blocks": [{"model": "a", "start": 0, "stop": 1}]}


@pytest.mark.parametrize(
    ("attrs", "trial"),
    [
        ({"budget": {**BUDGET, "unknown": 1}}, {}),
        ({"budget": {**BUDGET, "max_params": "many"}}, {}),
        ({"budget": [1]}, {}),
        ({"proxies": 3}, {}),
        ({}, {"recipe": "[" * 100_000}),
        ({}, {"recipe": '"/etc/passwd"'}),
        ({}, {"recipe": 5}),
        ({}, {"scores": {"p": "high"}}),
        ({}, {"scores": 7}),
        ({}, {"seconds": None}),
        ({}, {"init": 1}),
    ],
)
def test_nothing_is_taken_over_from_a_study_that_no_search_wrote(
    attrs: Mapping[str, object], trial: Mapping[str, object]
) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    for name, value in {"proposed_from": "h", "proxies": ["p"], "budget": BUDGET, **attrs}.items():
        study.set_user_attr(name, value)
    good = {
        "recipe": json.dumps(RECIPE), "scores": {"p": 1.0}, "conditions": {"p": {}},
        "seconds": 1.0, "init": [],
    }  # fmt: skip
    study.add_trial(create_trial(values=[1, 1], user_attrs={**good, **trial}))
    with pytest.warns(Note, match="no search has written"):
        known = Known([study], {"p": {}}, "h")
    assert not known.of(Recipe.from_any(RECIPE)).scores


@pytest.mark.parametrize("name", ["a\nzoo: {}", "a\x85b: c", "\u2028- x", "a #b", "\x1b[2J", "é"])
def test_a_drafted_value_is_read_back_as_it_was(name: str) -> None:
    for value in (name, [name], {name: [name]}):
        assert yaml.safe_load(entry(name, value)) == {name: value}
