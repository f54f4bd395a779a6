"""Where stitches come from: fitted once a pair of cuts, chained, or inherited by DPIAT."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.networks.fitter import Joint, StitchFitter

LONG = Recipe((BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("swin", 2, 5)))

OTHER = Recipe((BlockRef("mlp", 0, 4), BlockRef("vit", 2, 3), BlockRef("swin", 2, 5)))


def weights(recipe: Recipe, zoo: Any, fitter: StitchFitter, joint: int) -> Tensor:
    """Return the map of one stitch."""
    stitch = assemble(recipe, zoo, num_classes=3, fitter=fitter).stitches[joint]
    return stitch.map.weight


def test_one_fit_a_pair_of_cuts_serves_every_recipe(zoo, images) -> None:
    fitter = StitchFitter(zoo, images[:32])
    one, other = (weights(recipe, zoo, fitter, 1) for recipe in (LONG, OTHER))
    assert torch.equal(one, other)
    assert set(fitter.r2) == {
        Joint("cnn", 4, "vit", 1), Joint("mlp", 4, "vit", 2), Joint("vit", 3, "swin", 2),
    }  # fmt: skip


def test_a_chained_fit_follows_what_the_blocks_before_really_give(zoo, images) -> None:
    chained, paired = (StitchFitter(zoo, images[:48], chained=c) for c in (True, False))
    errors = []
    for fitter in (chained, paired):
        net = assemble(LONG, zoo, num_classes=3, fitter=fitter)
        x = net.transform.normalize(images[:48])
        with torch.no_grad():
            given = net.stitches[1](net.blocks[1](net.stitches[0](net.blocks[0](x))))
            wanted = fitter.own("swin", 2)[0]
        errors.append(float(((given - wanted) ** 2).mean()))
    assert errors[0] < errors[1]
    assert not torch.equal(*(weights(r, zoo, chained, 1) for r in (LONG, OTHER)))


@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_dpiat_stitches_hold_a_layer_of_the_next_model(zoo, model: str) -> None:
    """The middle of the map is the middle of a layer of the node that is replaced; the rest is
    the random start."""
    into = 3
    recipe = Recipe((BlockRef("vit", 0, 2), BlockRef(model, into, into + 1)))
    maps = {
        init: assemble(recipe, zoo, init, num_classes=3).stitches[0].map.weight[:, :, 0, 0]
        for init in ("dpiat", "random")
    }
    changed = maps["dpiat"] != maps["random"]
    rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
    crop = maps["dpiat"][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    layers = [
        m.weight.flatten(2).mean(2) if m.weight.ndim == 4 and m.weight[0, 0].numel() == 1
        else m.weight
        for m in zoo[model].graph.nodes[into - 1].module.modules()
        if isinstance(m, nn.Linear | nn.Conv2d)
    ]  # fmt: skip
    assert any(torch.equal(crop, middle(w, crop.shape)) for w in layers if w.ndim == 2)


def middle(x: Tensor, shape: torch.Size) -> Tensor:
    """Return the centre crop, as written in appendix A.2 of DPIAT."""
    (a, b), (h, w) = x.shape, shape
    top, left = max(0, a - h) // 2, max(0, b - w) // 2
    return x[top : top + h, left : left + w]
