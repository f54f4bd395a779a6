"""Exported folders give the network back to the last bit, without the zoo."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import zoo_search as zs
from zoo_search.errors import UserError
from zoo_search.export import export_all, export_onnx, export_torch, save_folder
from zoo_search.reassembly.network import ReassembledNet
from zoo_search.reassembly.recipe import Recipe
from zoo_search.zoo import Zoo, load_zoo

SIZE = 32
CLASSES = ("zero", "one", "two")
METADATA = {
    "name": "a test",
    "role": "reassembly",
    "params": 1_000_000,
    "macs": 2_000_000,
    "dataset": "digits",
    "scores": {"naswot": 1.5},
    "protocols": {
        "frozen": {"test_accuracy": 0.5, "trainable_params": 10, "seconds": 1.0, "curve": []}
    },
    "command": "zoo-search run job.yaml",
}
MIXED = {
    "blocks": [
        {"model": "resnet", "start": 0, "stop": 3},
        {"model": "vit", "start": 1, "stop": 3},
        {"model": "mobilenet", "start": 8, "stop": 11},
    ],
    "head": "target",
}
SOURCE = {
    "blocks": [
        {"model": "vit", "start": 0, "stop": 2},
        {"model": "vit", "start": 2, "stop": 3},
    ],
    "head": "source",
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Three families; the weights files are gone once the zoo is loaded."""
    import timm
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")
    vit = {"img_size": SIZE, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
    archs: dict[str, tuple[str, dict[str, Any]]] = {
        "resnet": ("resnet10t", {}),
        "vit": ("vit_tiny_patch16_224", {**vit, "num_classes": 3}),
        "mobilenet": ("mobilenetv3_small_050", {}),
    }
    torch.manual_seed(5)
    entries = {}
    for name, (arch, kwargs) in archs.items():
        module = timm.create_model(arch, pretrained=False, **kwargs)
        for buffer_name, buffer in module.named_buffers():
            if buffer_name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
        save_file(module.state_dict(), folder / f"{name}.safetensors")
        weights = str(folder / f"{name}.safetensors")
        entries[name] = {"arch": arch, "kwargs": kwargs, "weights": weights}
    entries["resnet"]["license"] = "CC-BY-4.0"
    job = {"name": "x", "input_size": SIZE, "zoo": entries, "dataset": "digits"}
    loaded = load_zoo(job)
    for file in folder.iterdir():
        file.unlink()
    return loaded


def images(count: int) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def make(zoo: Zoo, recipe: Any) -> ReassembledNet:
    return zs.assemble(recipe, zoo, init="random", num_classes=len(CLASSES), seed=3)


def save(zoo: Zoo, recipe: Any, folder: Path) -> ReassembledNet:
    net = make(zoo, recipe)
    parsed = Recipe.from_any(recipe)
    save_folder(net, folder, recipe=parsed, zoo=zoo, classes=CLASSES, metadata=METADATA)
    return net


@pytest.mark.parametrize("recipe", [MIXED, SOURCE], ids=["mixed", "source"])
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
    config["classes"] = ["a", "b"]
    config["parents"]["vit"]["kwargs"]["embed_dim"] = 64
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match="do not fit the architectures"):
        zs.load(tmp_path / "w")


def test_onnx_gives_the_same_logits_at_any_batch_size(zoo: Zoo, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net = save(zoo, MIXED, tmp_path / "w")
    assert export_all(tmp_path / "w", onnx=True) == [tmp_path / "w" / "model.onnx"]
    session = onnxruntime.InferenceSession(
        tmp_path / "w" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    for count in (1, 2, 5):
        x = images(count)
        (found,) = session.run(["logits"], {"image": x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), net(x), rtol=1e-3, atol=1e-4)


def test_torch_export_gives_the_same_logits(zoo: Zoo, tmp_path: Path) -> None:
    net = make(zoo, MIXED)
    export_torch(net, tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    with torch.no_grad():
        torch.testing.assert_close(program(images(5)), net(images(5)))
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt2"]


def test_a_missing_package_is_named(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def no_onnx(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_onnx)
    with pytest.raises(UserError, match=r"needs the package 'onnx'.*zoo-search\[export\]"):
        export_onnx(make(zoo, SOURCE), tmp_path / "model.onnx")
    with pytest.raises(UserError, match="Nothing to export"):
        export_all(tmp_path)
