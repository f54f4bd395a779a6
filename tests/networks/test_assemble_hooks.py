"""Hooks of a candidate: their order, what they see, what they leave alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo_search.config import HookConfig, load_job
from zoo_search.core.errors import UserError
from zoo_search.hooks import Context
from zoo_search.networks import BlockRef, Recipe, assemble

RECIPE = Recipe((BlockRef("cnn", 0, 5), BlockRef("vit", 1, 3), BlockRef("cnn", 8, 12)))


def test_hooks_of_a_candidate_follow_each_other(zoo: Any) -> None:
    images = torch.randint(0, 256, (48, 3, 64, 64), dtype=torch.uint8)
    labels = torch.arange(48) % 3
    options: dict[str, Any] = {"images": images, "labels": labels, "num_classes": 3}
    fitted = assemble(RECIPE, zoo, "least_squares", **options)
    both = assemble(RECIPE, zoo, ["dpiat", "least_squares"], **options)
    turned = assemble(RECIPE, zoo, ["least_squares", "dpiat"], **options)
    assert [r.hook for r in turned.init_reports] == ["least_squares", "dpiat"]
    assert torch.equal(fitted.head.weight, both.head.weight)
    assert torch.equal(fitted.stitches[1].map.weight, both.stitches[1].map.weight)
    assert not torch.equal(fitted.head.weight, turned.head.weight)
    report = fitted.init_reports[0]
    assert report.fitted
    assert len(report.facts["r2"]) == 2
    assert report.changed == report.values


def test_a_hook_of_a_candidate_sees_the_images(zoo: Any) -> None:
    images = torch.randint(0, 256, (16, 3, 64, 64), dtype=torch.uint8)
    seen: dict[str, Any] = {}

    def unit_variance(module: nn.Module, context: Context) -> dict[str, Any]:
        """Scale every new map so that its output has variance 1 (Mishkin and Matas, LSUV)."""
        assert context.inputs is not None
        x = context.inputs()
        seen.update(shape=tuple(x.shape), role=context.role, labels=context.labels)
        for piece in context.pieces:
            if piece.name.startswith("stitches"):
                out: list[Tensor] = []
                layer = piece.module.get_submodule("map")
                hold = layer.register_forward_hook(lambda m, i, o, out=out: out.append(o))
                module(x)
                hold.remove()
                layer.get_parameter("weight").div_(out[0].std())
        return {"scaled": len(context.pieces) - 1}

    net = assemble(RECIPE, zoo, ["random", unit_variance], images=images, num_classes=3)
    assert seen == {"shape": (16, 3, 64, 64), "role": "candidate", "labels": None}
    with torch.no_grad():
        out = net.stitches[0].map(net.blocks[0](zoo["cnn"].transform.normalize(images)))
    assert float(out.std()) == pytest.approx(1, rel=1e-5)
    assert net.init_reports[1].facts == {"scaled": 2}
    assert net.init_reports[1].changed > 0


def test_hooks_leave_the_zoo_alone_when_blocks_are_shared(zoo: Any) -> None:
    def scale(module: nn.Module, context: Context) -> None:
        for parameter in module.parameters():
            parameter.mul_(2)

    before = {n: t.clone() for n, t in zoo["cnn"].module.state_dict().items()}
    with pytest.raises(UserError, match=r"'scale'.* changed pre-trained weights"):
        assemble(RECIPE, zoo, scale, num_classes=3)
    assert all(torch.equal(t, before[n]) for n, t in zoo["cnn"].module.state_dict().items())


def test_the_rule_of_a_run_file_is_the_list_of_a_call(zoo: Any) -> None:
    config = load_job(
        {"name": "t", "dataset": "digits", "zoo": {"a": {"arch": "x"}}, "init": ["dpiat"]}
    )
    one = assemble(RECIPE, zoo, config.init, num_classes=5)
    two = assemble(RECIPE, zoo, [HookConfig(hook="dpiat")], num_classes=5)
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    )
