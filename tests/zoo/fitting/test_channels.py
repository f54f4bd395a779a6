"""Grey networks on RGB images, and networks of other images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from one_model import ARCH, load_one, net_of
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import zoo_search as zs
from zoo_search.core.errors import UserError
from zoo_search.export import save_folder
from zoo_search.networks import Recipe
from zoo_search.zoo import Zoo, load_zoo


@pytest.mark.parametrize("arch", [ARCH, "test_vit"])
def test_a_grey_network_sees_the_luma(tmp_path: Path, arch: str) -> None:
    torch.manual_seed(1)
    grey = timm.create_model(arch, in_chans=1).eval()
    save_file(grey.state_dict(), tmp_path / "w.safetensors")
    entry = {"arch": arch, "kwargs": {"in_chans": 1}, "weights": str(tmp_path / "w.safetensors")}
    model = load_one(**entry, mean=(0.2, 0.4, 0.6), std=(0.3,) * 3, crop_pct=1)
    assert model.transform.mean == pytest.approx([0.4] * 3)
    assert "grey: on the luma of RGB images" in model.source
    pixels = np.random.default_rng(0).integers(0, 256, (*model.transform.size, 3), np.uint8)
    picture = Image.fromarray(pixels)
    luma = torch.from_numpy(np.array(picture.convert("L"), dtype=np.float32))  # Pillow's, rounded
    with torch.no_grad():
        expected = grey(((luma / 255 - 0.4) / 0.3)[None, None])
        found = model.module(model.transform.image(picture)[None])
        other = model.module(model.transform.image(picture).flip(0)[None])
    assert (found - expected).abs().max() < 0.05 * (other - expected).abs().max()
    # Without the rounding the two agree to float32's precision.
    exact = torch.from_numpy(pixels @ np.array([0.299, 0.587, 0.114])).float()
    with torch.no_grad():
        expected = grey(((exact / 255 - 0.4) / 0.3)[None, None])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_grey_blocks_work_in_recipes_and_come_back(tmp_path: Path) -> None:
    save_file(net_of(in_chans=1).state_dict(), tmp_path / "grey.safetensors")
    save_file(net_of(2).state_dict(), tmp_path / "rgb.safetensors")
    zoo = load_zoo({
        "name": "t", "dataset": "digits", "input_size": 32,
        "zoo": {
            "grey": {
                "arch": ARCH, "kwargs": {"in_chans": 1},
                "weights": str(tmp_path / "grey.safetensors"),
            },
            "rgb": {"arch": ARCH, "weights": str(tmp_path / "rgb.safetensors")},
        },
    })  # fmt: skip
    assert isinstance(zoo, Zoo)
    blocks = [
        {"model": "grey", "start": 0, "stop": 2},
        {"model": "rgb", "start": 2, "stop": len(zoo["rgb"].graph)},
    ]
    recipe = Recipe.from_any({"blocks": blocks})
    net = zs.assemble(recipe, zoo, init="random", num_classes=2)
    save_folder(net, tmp_path / "w", recipe=recipe, zoo=zoo, classes=("x", "y"), metadata={})
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(zs.load(tmp_path / "w")(x), net(x))


def test_weights_of_rgb_for_a_grey_network(tmp_path: Path) -> None:
    """timm adds them up, as its documentation of ``in_chans`` says."""
    net = net_of()
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    model = load_one(kwargs={"in_chans": 1}, weights=str(tmp_path / "w.safetensors"))
    grey = net.conv1[0].weight.sum(1, keepdim=True)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close(model.module.conv1[0].weight, grey * luma)


@pytest.mark.parametrize("channels", [2, 4, 13, "3"])
def test_other_channels_are_refused_before_weights_are_read(channels: Any) -> None:
    with pytest.raises(UserError, match=rf"zoo\.a\.kwargs\.in_chans is {channels!r}, but images"):
        load_one(kwargs={"in_chans": channels}, weights="nowhere.pth")


def test_files_of_other_channels_are_named(tmp_path: Path) -> None:
    for channels, words in ((1, r"kwargs: \{in_chans: 1\} if it was"), (4, "images of 4 channels")):
        save_file(net_of(in_chans=channels).state_dict(), tmp_path / "w.safetensors")
        with pytest.raises(UserError, match=words):
            load_one(weights=str(tmp_path / "w.safetensors"))


def test_trainings_of_our_own_have_rgb_images() -> None:
    with pytest.raises(UserError, match=r"in_chans is 1, but 'digits', which .* has RGB images"):
        load_one(kwargs={"in_chans": 1}, weights="pretrained_on:digits")


def multispectral() -> nn.Module:
    return nn.Sequential(nn.Conv2d(5, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


class _Stacked(nn.Module):
    """Takes RGB, though its first convolution has six channels."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(6, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.net(torch.cat([x, -x], dim=1))
        return out


def stacked() -> nn.Module:
    return _Stacked()


def test_modules_of_the_users_own() -> None:
    with pytest.raises(UserError, match=r"zoo\.a takes images of 5 channels, but images are"):
        load_one(arch=f"module:{__name__}:multispectral", weights="own")
    assert load_one(arch=f"module:{__name__}:stacked", weights="own").spec.kwargs == {}
