"""From an entry to a module."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from zoo_search.core.errors import UserError
from zoo_search.zoo.build import build, family_of, own_size

FACTORY = """
import torch
from torch import nn
calls = []
def tiny(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width, 10))
def wrong():
    return "no module"
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_zoo_nets.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_zoo_nets", raising=False)
    return "module:my_zoo_nets"


def test_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"zoo\.a\.arch.*'resnett18'.*Did you mean 'resnet18'"):
        build("resnett18", {}, "zoo.a")


def test_unknown_tag_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"no weights 'a1_in2k' for 'resnet18'.*a1_in1k"):
        build("resnet18.a1_in2k", {}, "zoo.a")
    assert isinstance(build("test_resnet.r160_in1k", {}, "zoo.a"), nn.Module)


def test_wrong_kwargs_are_named() -> None:
    with pytest.raises(UserError, match=r"cannot build 'test_resnet'.*no_such_thing"):
        build("test_resnet", {"no_such_thing": 3}, "zoo.a")


def test_same_seed_same_weights_and_global_state_untouched() -> None:
    arch, kwargs = "test_vit", {"num_classes": 3}
    before = torch.random.get_rng_state()
    a, b, c = (build(arch, kwargs, "zoo.a", seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize("arch", ["vit_tiny_patch16_224", "test_vit", "test_resnet"])
def test_run_level_size(arch: str) -> None:
    module = build(arch, {}, "zoo.a", input_size=64)
    with torch.no_grad():
        assert module(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_own_size_and_conflict() -> None:
    arch, kwargs = "vit_tiny_patch16_224", {"img_size": 96}
    assert own_size(arch, kwargs) == 96
    assert own_size("test_resnet", {}) == 160
    with pytest.raises(UserError, match=r"img_size is 96 but the run's input_size is 64"):
        build(arch, kwargs, "zoo.a", input_size=64)


def test_whatever_the_architecture_raises_is_told() -> None:
    arch, kwargs = "vit_tiny_patch16_224", {"patch_size": 0}
    with pytest.raises(UserError, match=r"cannot build 'vit_tiny_patch16_224'.*own is 224"):
        build(arch, kwargs, "zoo.a", input_size=64)


def test_family() -> None:
    assert family_of("regnetx_002") == "regnet"
    assert family_of("vit_tiny_patch16_224.augreg_in21k") == "vision_transformer"
    assert family_of("module:my.own.nets:tiny") == "nets"


def test_factory(factory: str) -> None:
    module = build(f"{factory}:tiny", {"width": 6}, "zoo.a")
    assert module[0].out_channels == 6
    assert not module.training


@pytest.mark.parametrize(
    ("arch", "kwargs", "message"),
    [
        ("module:my_zoo_nets", {}, "with both colons"),
        ("module:not_there_at_all:tiny", {}, "no Python module 'not_there_at_all'"),
        ("module:my_zoo_nets:tinny", {}, "has no 'tinny'. Did you mean 'tiny'"),
        ("module:my_zoo_nets:tiny", {"depth": 2}, "depth"),
        ("module:my_zoo_nets:wrong", {}, "returned str"),
    ],
)
def test_factory_errors(factory: str, arch: str, kwargs: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(arch, kwargs, "zoo.a")
