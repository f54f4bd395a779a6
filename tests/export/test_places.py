"""Where exports go, and what may be replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
from networks_to_export import MIXED, save

from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.export.folder import FILES
from zoo_search.export.runtimes import export_all
from zoo_search.zoo import Zoo


def test_an_export_makes_no_winner_of_a_run_another_one(zoo: Zoo, tmp_path: Path) -> None:
    store, winner = RunStore(str(tmp_path / "run")), tmp_path / "run/winners/0"
    save(zoo, MIXED, winner)
    store.record("finetune", "x", ["winners/0"], seconds=1)
    (written,) = export_all(winner, torch_export=True)
    assert written == tmp_path / "run/exports/0/model.pt2"
    assert written.is_file()
    assert store.is_current("finetune", "x")
    (elsewhere,) = export_all(winner, torch_export=True, out=tmp_path / "mine")
    assert elsewhere == tmp_path / "mine/model.pt2"


def test_a_folder_of_its_own_takes_its_exports(zoo: Zoo, tmp_path: Path) -> None:
    save(zoo, MIXED, tmp_path / "w")
    assert export_all(tmp_path / "w", torch_export=True) == [tmp_path / "w/model.pt2"]
    assert {path.name for path in (tmp_path / "w").iterdir()} <= FILES


def test_a_network_is_saved_over_a_network_and_nothing_else(zoo: Zoo, tmp_path: Path) -> None:
    place = tmp_path / "w"
    place.mkdir()
    (place / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"no exported network and holds thesis\.txt"):
        save(zoo, MIXED, place)
    assert (place / "thesis.txt").read_text() == "mine"
    (place / "thesis.txt").unlink()
    save(zoo, MIXED, place)
    (place / "notes.txt").write_text("mine")
    (place / "model.onnx").write_text("of the network before")
    save(zoo, MIXED, place)
    assert (place / "notes.txt").read_text() == "mine"
    assert not (place / "model.onnx").exists()
    with pytest.raises(UserError, match="is a file"):
        save(zoo, MIXED, place / "notes.txt")
