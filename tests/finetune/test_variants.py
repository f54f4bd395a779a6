"""Changed winners: where the recipe cuts them, and what they start from."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from torch import nn

from zoo_search.config import JobConfig, load_job
from zoo_search.core.errors import UserError
from zoo_search.finetune.entries import Entry
from zoo_search.finetune.networks import Network
from zoo_search.finetune.variants import carry_over, fill_variant, plan_variant
from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.zoo import Zoo, load_zoo

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 6, "num_heads": 2}
ZOO: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit_tiny_patch16_224", VIT),
    "res": ("resnet18", {}),
    "mob": ("mobilenetv3_small_050", {}),
}
RECIPE = Recipe((BlockRef("res", 0, 4), BlockRef("vit", 3, 5), BlockRef("res", 6, 8)))


@pytest.fixture(scope="module")
def job(weights_file: Callable[..., str]) -> dict[str, Any]:
    zoo = {
        name: {"arch": arch, "kwargs": kwargs, "weights": weights_file(arch, seed, **kwargs)}
        for seed, (name, (arch, kwargs)) in enumerate(ZOO.items())
    }
    return {"name": "t", "dataset": "digits", "input_size": 32, "zoo": zoo}


@pytest.fixture(scope="module")
def zoo(job: dict[str, Any]) -> Zoo:
    return load_zoo(job)


def trained(zoo: Zoo, recipe: Recipe = RECIPE) -> Network:
    """A network whose every value differs from the zoo's, as after FULL-TUNING."""
    net = assemble(recipe, zoo, "random", num_classes=4, seed=1)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
    models = {name: zoo[name] for name in recipe.models}
    return Network(Entry("reassembly 1", "reassembly", recipe), net, models, (), [])


def changed(job: dict[str, Any], **change: Any) -> JobConfig:
    return load_job(job | {"finetune": {"variants": {"v": change}}})


def make(job: JobConfig, winner: Network) -> tuple[Network, Network]:
    planned = plan_variant("v", job.finetune.variants["v"], winner, 4, job)
    before = {name: tensor.clone() for name, tensor in planned.net.state_dict().items()}
    filled = fill_variant(planned, winner, "task", job.seed)
    assert filled.of == "reassembly 1"
    assert any(not torch.equal(t, before[n]) for n, t in filled.net.state_dict().items())
    return planned, filled


def test_another_input_size_keeps_every_weight_and_moves_no_cut(
    job: dict[str, Any], zoo: Zoo
) -> None:
    winner = trained(zoo, Recipe((BlockRef("res", 0, 4), BlockRef("mob", 5, 12))))
    _, larger = make(changed(job, input_size=64), winner)
    assert [(b.model, b.start, b.stop) for b in larger.entry.recipe.blocks] == [
        ("res@v", 0, 4),
        ("mob@v", 5, 12),
    ]
    state = larger.net.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in winner.net.state_dict().items())
    assert larger.net.input_size == (3, 64, 64)
    assert larger.net.transform.size == (64, 64)
    assert larger.fitted  # so that FROZEN-TUNING takes small steps
    images = torch.rand(2, 3, 64, 64)
    assert larger.net(images).shape == (2, 4)
    # The same weights, read independently: the blocks of the winner run by hand at 64 pixels.
    with torch.no_grad():
        x = winner.net.blocks[0](images)
        assert torch.equal(larger.net.blocks[0](images), x)


def test_a_deeper_model_is_cut_at_the_same_share_of_the_way(job: dict[str, Any], zoo: Zoo) -> None:
    config = changed(job, models={"vit": {"kwargs": {"depth": 8}}, "res": {"arch": "resnet34"}})
    winner = trained(zoo)
    planned, filled = make(config, winner)
    # ViT: cuts 3 and 5 of 6 become 4 and 7 of 8. ResNet-18 cuts 4 (stride 8, 2 of 2) and 6
    # (stride 16, 2 of 2); ResNet-34 has 3, 4, 6, 3 blocks: cuts 7 and 13.
    assert [(b.start, b.stop) for b in planned.entry.recipe.blocks] == [(0, 7), (4, 7), (13, 16)]
    report = filled.reports[0]
    assert (report.hook, report.role, report.facts["source"]) == (
        "dpiat", "variant", "reassembly 1",
    )  # fmt: skip
    own = filled.net.state_dict()
    ours = winner.net.state_dict()
    # Stitches and head have the same shapes, and come over whole.
    for name in ("stitches.0.map.weight", "stitches.1.map.bias", "head.weight", "head.bias"):
        assert torch.equal(own[name], ours[name])


def test_a_wider_model_holds_the_winner_in_its_middle(job: dict[str, Any], zoo: Zoo) -> None:
    config = changed(job, models={"vit": {"kwargs": {"embed_dim": 32}}})
    winner = trained(zoo)
    planned, filled = make(config, winner)
    assert [(b.start, b.stop) for b in planned.entry.recipe.blocks] == [(0, 4), (3, 5), (6, 8)]
    new = filled.net.stitches[0].get_submodule("map").get_parameter("weight")
    old = winner.net.stitches[0].get_submodule("map").get_parameter("weight")
    assert new.shape[0] == 32
    assert torch.equal(new[4:28], old)
    assert torch.equal(
        filled.net.get_parameter("head.weight"), winner.net.get_parameter("head.weight")
    )


def test_other_hooks_for_one_variant(job: dict[str, Any], zoo: Zoo) -> None:
    config = changed(job, input_size=64, init="random")
    planned = plan_variant("v", config.finetune.variants["v"], trained(zoo), 4, config)
    before = {name: tensor.clone() for name, tensor in planned.net.state_dict().items()}
    filled = fill_variant(planned, trained(zoo), "task", 0)
    assert all(torch.equal(t, before[n]) for n, t in filled.net.state_dict().items())
    assert not filled.fitted


def test_what_cannot_be_carried_over(job: dict[str, Any], zoo: Zoo) -> None:
    short = Recipe((BlockRef("res", 0, 4), BlockRef("vit", 3, 4), BlockRef("res", 6, 8)))

    def plan(recipe: Recipe = RECIPE, **change: Any) -> Network:
        config = changed(job, **change)
        winner = trained(zoo, recipe)
        return plan_variant("v", config.finetune.variants["v"], winner, 4, config)

    with pytest.raises(
        UserError, match=r"finetune\.variants\.v: 'reassembly 1' holds no block of mob"
    ):
        plan(models={"mob": {"arch": "mobilenetv3_small_100"}})
    with pytest.raises(UserError, match=r"cuts res at stride 8, and .* strides 16 only"):
        plan(models={"res": {"arch": "vit_tiny_patch16_224", "kwargs": {"img_size": 32}}})
    with pytest.raises(
        UserError, match=r"the block vit\[3,4\) has no nodes left in the changed vit"
    ):
        plan(short, models={"vit": {"kwargs": {"depth": 2}}})
    with pytest.raises(UserError, match=r"finetune\.variants\.v\.models\.vit: timm cannot build"):
        plan(models={"vit": {"kwargs": {"no_such": 1}}})


def test_cuts_keep_their_order(zoo: Zoo) -> None:
    """Whatever the depths, a chain of blocks over the whole model stays one."""
    old = {"vit": zoo["vit"]}
    for depth in (6, 7, 9, 12):
        module: nn.Module = timm.create_model("vit_tiny_patch16_224", **{**VIT, "depth": depth})
        new = {"vit": replace(zoo["vit"], name="w", module=module)}
        chain = Recipe(tuple(BlockRef("vit", i, i + 1) for i in range(6)))
        blocks = carry_over("here", chain, old, new).blocks
        assert (blocks[0].start, blocks[-1].stop) == (0, depth)
        assert all(a.stop == b.start for a, b in itertools.pairwise(blocks))
        sizes = [b.stop - b.start for b in blocks]
        assert max(sizes) - min(sizes) <= 1
