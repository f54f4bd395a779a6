"""Checkpoints as people bring them, on the real loading of a zoo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from one_model import ARCH, load_one, net_of, same
from safetensors.torch import save_model
from torch import Tensor, nn

import zoo_search as zs
from zoo_search.core.errors import UserError
from zoo_search.export import save_folder
from zoo_search.networks import Recipe
from zoo_search.zoo import ZooModel, load_zoo

TORCHVISION = "module:torchvision.models:squeezenet1_1"


def _load(tmp_path: Path, file: object, **entry: Any) -> ZooModel:
    torch.save(file, tmp_path / "w.ckpt")
    return load_one(weights=str(tmp_path / "w.ckpt"), **entry)


def _under(prefix: str, net: nn.Module) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in net.state_dict().items()}


def features(net: nn.Module) -> Tensor:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out: Tensor = net.forward_features(x)
    return out


def test_lightning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = net_of()
    state = {"criterion.weight": torch.ones(3), **_under("model._orig_mod.", net)}
    model = _load(tmp_path, {"epoch": 3, "state_dict": state, "callbacks": {}})
    assert same(model.module, net)
    said = "under 'state_dict.model._orig_mod'; left out: criterion.weight"
    assert model.source == f"{tmp_path / 'w.ckpt'} ({said})"
    printed = " ".join(capsys.readouterr().err.split())
    assert "zoo.a:" in printed
    assert said in printed


def test_a_file_as_it_should_be_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = _load(tmp_path, net_of().state_dict())
    assert model.source == str(tmp_path / "w.ckpt")
    assert capsys.readouterr().err == ""


def test_averaged_weights_of_timms_own_training(tmp_path: Path) -> None:
    plain, average = net_of(1), net_of(2)
    file = {"state_dict": plain.state_dict(), "state_dict_ema": average.state_dict()}
    assert same(_load(tmp_path, file).module, plain)
    taken = _load(tmp_path, file, state="ema")
    assert same(taken.module, average)
    assert "averaged weights, 'state_dict_ema'" in taken.source


def test_averages_of_torch(tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(net_of(), use_buffers=True)
    model = _load(tmp_path, averaged.state_dict())
    assert same(model.module, net_of())
    assert "left out" not in model.source  # its count of averages is no tensor of anybody's


def test_a_missing_tensor_stays_an_error(tmp_path: Path) -> None:
    state = _under("model.", net_of())
    del state["model.layer2.0.conv1.weight"]
    with pytest.raises(UserError, match=r"does not fit.*: layer2\.0\.conv1\.weight: expected .* f"):
        _load(tmp_path, {"state_dict": state})


@pytest.mark.parametrize("arch", [ARCH, "test_vit", "test_efficientnet"])
def test_the_classes_are_the_files(tmp_path: Path, arch: str) -> None:
    torch.manual_seed(2)
    net = timm.create_model(arch, num_classes=7).eval()
    model = _load(tmp_path, {"state_dict": _under("net.", net)}, arch=arch)
    assert "7 classes, as in the file" in model.source
    assert model.spec.kwargs == {"num_classes": 7}
    assert all(torch.equal(net.state_dict()[k], v) for k, v in model.module.state_dict().items())


@pytest.mark.parametrize("arch", [ARCH, "test_vit"])
def test_a_file_without_a_head(tmp_path: Path, arch: str) -> None:
    torch.manual_seed(2)
    net = timm.create_model(arch).eval()
    classifier = net.get_classifier()
    name = next(key for key, part in net.named_modules() if part is classifier)
    bare = {k: v for k, v in net.state_dict().items() if not k.startswith(f"{name}.")}
    job = {"name": "t", "dataset": "digits", "input_size": 64}
    torch.save(bare, tmp_path / "w.pth")
    entry = {"arch": arch, "weights": str(tmp_path / "w.pth")}
    model = load_zoo({**job, "zoo": {"a": entry}})["a"]
    assert "without a head" in model.source
    assert model.spec.kwargs == {"num_classes": 0}
    kept = model.module.state_dict()
    unchanged = [key for key in bare if kept[key].shape == bare[key].shape]
    assert len(unchanged) >= len(bare) - 1  # position embeddings are fitted to the size
    assert all(torch.equal(kept[key], bare[key]) for key in unchanged)
    recipe = Recipe.whole("a", len(model.graph))
    whole = zs.assemble(recipe, {"a": model}, init="random", num_classes=3)
    save_folder(whole, tmp_path / "w", recipe=recipe, zoo={"a": model}, classes="xyz", metadata={})
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert whole(x).shape == (2, 3)
        assert torch.equal(zs.load(tmp_path / "w")(x), whole(x))


def test_a_head_of_the_users_own_is_left_out(tmp_path: Path) -> None:
    net = net_of()
    state = {k: v for k, v in _under("model.", net).items() if not k.startswith("model.fc.")}
    state |= {"model.fc.1.weight": torch.ones(9, 4), "model.fc.1.bias": torch.ones(9)}
    model = _load(tmp_path, {"state_dict": state})
    assert torch.equal(features(model.module), features(net))
    assert "left out: model.fc.1.weight, model.fc.1.bias" in model.source
    assert "without a head" in model.source


def test_classes_that_the_run_file_says_are_meant(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave num_classes out, and the classes are the file's"):
        _load(tmp_path, net_of(num_classes=7).state_dict(), kwargs={"num_classes": 5})
    headless = _load(tmp_path, net_of().state_dict(), kwargs={"num_classes": 0})
    assert torch.equal(features(headless.module), features(net_of()))
    assert "left out: fc.weight, fc.bias" in headless.source


def test_timms_rules_see_the_files_classes(tmp_path: Path) -> None:
    """Position embeddings of another size, under a prefix, with other classes."""
    torch.manual_seed(0)
    big = timm.create_model("test_vit", img_size=160, num_classes=7)
    torch.save({"state_dict": _under("model.", big)}, tmp_path / "w.pth")
    zoo = {"a": {"arch": "test_vit", "weights": str(tmp_path / "w.pth")}}
    model = load_zoo({"name": "t", "dataset": "digits", "input_size": 64, "zoo": zoo})["a"]
    assert torch.equal(model.module.blocks[0].attn.qkv.weight, big.blocks[0].attn.qkv.weight)
    assert torch.equal(model.module.head.weight, big.head.weight)
    assert model.module.pos_embed.shape != big.pos_embed.shape


def test_factories_of_torchvision(tmp_path: Path) -> None:
    import torchvision

    arch = "module:torchvision.models:shufflenet_v2_x0_5"
    torch.manual_seed(0)
    net = torchvision.models.shufflenet_v2_x0_5(num_classes=7).eval()
    model = _load(tmp_path, net.state_dict(), arch=arch)
    assert same(model.module, net)
    assert model.spec.kwargs == {"num_classes": 7}
    bare = {k: v for k, v in net.state_dict().items() if not k.startswith("fc.")}
    model = _load(tmp_path, bare, arch=arch)
    net.fc = nn.Identity()
    assert same(model.module, net)
    assert "without a head" in model.source


def tied_net() -> nn.Module:
    torch.manual_seed(4)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 8, 8), nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 2),
    )  # fmt: skip
    net[2][0].weight = net[1][0].weight
    return net.eval()


def half_net() -> nn.Module:
    return tied_net().half()


def nan_net() -> nn.Module:
    net = tied_net()
    with torch.no_grad():
        net[5].bias[0] = torch.nan
    return net


def test_tied_tensors(tmp_path: Path) -> None:
    arch, net = f"module:{__name__}:tied_net", tied_net()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    save_model(net, str(tmp_path / "w.safetensors"))  # keeps one of them
    model = load_one(arch=arch, weights=str(tmp_path / "w.safetensors"))
    assert same(model.module, net)
    assert "tied: " in model.source
    assert model.module[1][0].weight is model.module[2][0].weight
    assert same(_load(tmp_path, net.state_dict(), arch=arch).module, net)  # keeps both
    differ = net.state_dict() | {"2.0.weight": torch.zeros(8, 8, 1, 1)}
    with pytest.raises(UserError, match=r"different values for '1\.0\.weight' and '2\.0\.weight'"):
        _load(tmp_path, differ, arch=arch)


def test_a_factory_that_brings_its_own() -> None:
    arch = f"module:{__name__}:tied_net"
    model = load_one(arch=arch, weights="own")
    assert same(model.module, tied_net())
    assert model.source == "the factory's own"
    half = load_one(arch=f"module:{__name__}:half_net", weights="own")
    assert half.source == "the factory's own (float16 taken as float32)"
    assert same(half.module, half_net().float())
    with pytest.raises(UserError, match=r"not finite.*: 5\.bias \(1 of 2\)"):
        load_one(arch=f"module:{__name__}:nan_net", weights="own")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"arch": ARCH, "weights": "own"}, "'test_resnet' is a timm name: write weights: timm"),
        ({"arch": TORCHVISION, "weights": "own", "sha256": "0" * 64}, "sha256 is for weights from"),
        ({"arch": TORCHVISION, "weights": "own", "state": "ema"}, "state is for weights from a fi"),
        ({"arch": ARCH, "weights": None, "state": "ema"}, "but weights is null"),
        ({"arch": TORCHVISION, "weights": "timm"}, "if a factory brings its own, own"),
        (
            {"arch": TORCHVISION, "weights": "own", "kwargs": {"weights": "NONE_SUCH"}},
            "the factory fails with .*NONE_SUCH.*Mend zoo.a.kwargs",
        ),
    ],
)
def test_own_is_for_factories_alone(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_one(**entry)
