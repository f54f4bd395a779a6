"""Exported folders give the network back to the last bit, without the zoo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from networks_to_export import CLASSES, METADATA, MIXED, SIZE, SOURCE, TAPPED, images, make, save

import zoo_search as zs
from zoo_search.core.errors import UserError
from zoo_search.export.folder import save_folder
from zoo_search.networks.recipe import Recipe
from zoo_search.zoo import Zoo


@pytest.mark.parametrize("recipe", [MIXED, SOURCE, TAPPED], ids=["mixed", "source", "tapped"])
def test_loaded_network_gives_the_same_logits_to_the_last_bit(
    zoo: Zoo, recipe: Any, tmp_path: Path
) -> None:
    net = save(zoo, recipe, tmp_path / "winner")
    state = torch.random.get_rng_state()
    loaded = zs.load(tmp_path / "winner")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not loaded.training
    assert loaded.state_dict().keys() == net.state_dict().keys()
    with torch.no_grad():
        for count in (1, 3):
            assert torch.equal(loaded(images(count)), net(images(count)))
    assert loaded.transform == zoo[Recipe.from_any(recipe).blocks[0].model].transform


def test_channels_last_networks_are_saved_as_they_are(zoo: Zoo, tmp_path: Path) -> None:
    net = make(zoo, MIXED)
    with torch.no_grad():
        expected = net(images(2))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe = Recipe.from_any(MIXED)
    save_folder(net, tmp_path / "w", recipe=recipe, zoo=zoo, classes=CLASSES, metadata=METADATA)
    with torch.no_grad():
        assert torch.equal(zs.load(tmp_path / "w")(images(2)), expected)


def test_the_folder_says_what_it_is(zoo: Zoo, tmp_path: Path) -> None:
    save(zoo, MIXED, tmp_path / "winner")
    names = {p.name for p in (tmp_path / "winner").iterdir()}
    assert names == {"model.safetensors", "recipe.yaml", "config.json", "README.md"}
    assert [p.name for p in tmp_path.iterdir()] == ["winner"]
    config = json.loads((tmp_path / "winner" / "config.json").read_text())
    assert config["classes"] == list(CLASSES)
    assert config["input_size"] == [3, SIZE, SIZE]
    assert config["metadata"] == METADATA
    assert set(config["parents"]) == {"resnet", "vit", "mobilenet"}
    assert [s is not None for s in config["stitches"]] == [True, True]
    assert Recipe.from_any(tmp_path / "winner" / "recipe.yaml") == Recipe.from_any(MIXED)
    card = (tmp_path / "winner" / "README.md").read_text()
    for words in ("CC-BY-4.0", "resnet10t", "50.00 %", "zoo-search run job.yaml", "zs.load"):
        assert words in card


def test_saving_again_replaces_and_a_failure_leaves_what_was(zoo: Zoo, tmp_path: Path) -> None:
    save(zoo, MIXED, tmp_path / "w")
    before = {p.name: p.read_bytes() for p in (tmp_path / "w").iterdir()}
    net, recipe = make(zoo, SOURCE), Recipe.from_any(SOURCE)
    bad = {**METADATA, "scores": {"naswot": float("nan")}}
    with pytest.raises(ValueError, match="JSON"):
        save_folder(net, tmp_path / "w", recipe=recipe, zoo=zoo, classes=CLASSES, metadata=bad)
    assert {p.name: p.read_bytes() for p in (tmp_path / "w").iterdir()} == before
    save(zoo, SOURCE, tmp_path / "w")
    assert Recipe.from_any(tmp_path / "w" / "recipe.yaml") == recipe
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_what_is_no_winner_is_refused(zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no exported network.*winners/0"):
        zs.load(tmp_path)
    save(zoo, SOURCE, tmp_path / "w")
    path = tmp_path / "w" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(UserError, match="has the format 99"):
        zs.load(tmp_path / "w")
    config.pop("checks")
    config["classes"] = ["a", "b"]
    config["parents"]["vit"]["kwargs"]["embed_dim"] = 64
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match="do not fit the architectures"):
        zs.load(tmp_path / "w")
