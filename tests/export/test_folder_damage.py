"""Exported folders that were cut, changed or written by hand: refused with what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks_to_export import MIXED, images, save

import zoo_search as zs
from zoo_search.core.errors import UserError
from zoo_search.zoo import Zoo


@pytest.fixture(scope="module")
def winner(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "winner"
    save(zoo, MIXED, folder)
    return folder


@pytest.fixture
def folder(winner: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(winner, tmp_path / "winner"))


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_bit_of_the_weights_is_found(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = file.read_bytes()
    for place in range(len(data) // 2, len(data), len(data) // 9):
        file.write_bytes(data[:place] + bytes([data[place] ^ 64]) + data[place + 1 :])
        with pytest.raises(UserError, match=r"model\.safetensors in .* changed after the folder"):
            zs.load(folder)
    for size in (0, 7, 100, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:size])
        with pytest.raises(UserError, match=r"model\.safetensors is not a safetensors file"):
            zs.load(folder)


def test_a_changed_recipe_or_fact_is_found_and_can_be_meant(folder: Path) -> None:
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("stop: 3", "stop: 2", 1))
    with pytest.raises(UserError, match=r"recipe\.yaml in .* changed after the folder"):
        zs.load(folder)
    (folder / "recipe.yaml").write_text(text)
    changed(folder, lambda config: config["preprocess"].update(mean=[0.5, 0.5, 0.5]))
    with pytest.raises(UserError, match=r"config\.json in .*take 'checks'.*out of config\.json"):
        zs.load(folder)
    changed(folder, lambda config: config.pop("checks"))
    assert zs.load(folder).transform.mean == (0.5, 0.5, 0.5)


def test_the_weights_of_an_earlier_version_are_held_to_their_hash(folder: Path) -> None:
    def older(config: dict[str, Any]) -> None:
        config["metadata"]["state_sha256"] = config.pop("checks")["weights"]

    with torch.no_grad():
        expected = zs.load(folder)(images(2))
        assert torch.equal(zs.load(changed(folder, older))(images(2)), expected)
    changed(folder, lambda config: config["metadata"].update(state_sha256="0" * 64))
    with pytest.raises(UserError, match=r"model\.safetensors in .*'state_sha256'"):
        zs.load(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("parents"), r"config\.json is damaged.*'parents': field required"),
        (lambda c: c.update(classes=3), r"'classes': input should be an instance of Sequence"),
        (lambda c: c["parents"].update(vit=[]), r"'parents\.vit': input should be a valid dict"),
        (lambda c: c["parents"]["vit"].pop("arch"), r"'parents\.vit\.arch': field required"),
        (lambda c: c["preprocess"].update(size="big"), r"'size': input should be a valid tuple"),
        (lambda c: c.update(cheeks={}), r"'cheeks': extra inputs are not permitted"),
        (lambda c: c["parents"].pop("vit"), r"recipe\.yaml names the models vit, of which config"),
    ],
)
def test_keys_that_are_missing_or_of_another_type_are_named(
    folder: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    changed(folder, change)
    with pytest.raises(UserError, match=words):
        zs.load(folder)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_config_that_is_no_mapping_is_told(folder: Path, text: bytes) -> None:
    (folder / "config.json").write_bytes(text)
    with pytest.raises(UserError, match=r"is no exported network: its config\.json cannot be"):
        zs.load(folder)
