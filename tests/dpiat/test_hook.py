"""DPIAT as an init hook: models of the zoo, stitches and heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo_search import dpiat
from zoo_search.core.errors import UserError
from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.zoo import list_zoo, load_zoo

MakeJob = Callable[..., dict[str, Any]]


def test_a_model_without_weights_takes_from_the_most_similar_one(
    job_with_new: MakeJob,
) -> None:
    zoo = load_zoo(job_with_new({"arch": "mobilenetv3_small_075"}))
    new, cnn = zoo["new"], zoo["cnn"]
    assert dpiat.rank_sources(new.module, {n: zoo[n] for n in ("cnn", "vit")})[0][0] == "cnn"
    alone = load_zoo(job_with_new({"arch": "mobilenetv3_small_075"}, init="random"))["new"].module
    told = dpiat.transfer(cnn.module, alone)
    assert all(
        torch.equal(a, b)
        for a, b in zip(alone.state_dict().values(), new.module.state_dict().values(), strict=True)
    )
    (report,) = new.init
    assert (report.hook, report.role, report.facts["source"]) == ("dpiat", "zoo", "cnn")
    assert report.facts["similarity"] == pytest.approx(told.similarity, abs=1e-6)
    assert report.facts["coverage"] == pytest.approx(told.coverage, abs=1e-6)
    # What was copied comes under the donor's licence and wants the donor's pixels.
    assert (new.license, new.transform.mean) == ("mit", (0.1, 0.2, 0.3))
    assert list_zoo(zoo)[2].init == (report.to_dict(),)


def test_the_donor_may_be_named(job_with_new: MakeJob) -> None:
    new = load_zoo(job_with_new({"arch": "mobilenetv3_small_075", "source": "vit"}))["new"]
    assert new.init[0].facts["source"] == "vit"
    assert new.license == "apache-2.0"
    assert new.source.startswith("dpiat from vit (similarity 0.")


def test_operators_of_dpiat_are_options(job_with_new: MakeJob) -> None:
    def first(**options: Any) -> Tensor:
        hook = {"hook": "dpiat", "options": options}
        zoo = load_zoo(job_with_new({"arch": "mobilenetv3_small_075"}, init=[hook]))
        weight: Tensor = zoo["new"].module.get_parameter("conv_stem.weight")
        return weight

    assert torch.equal(first(), first(operator="clip", matching="dp"))
    assert not torch.equal(first(), first(matching="random"))
    with pytest.raises(UserError, match=r"no option 'operater'.*Did you mean 'operator'"):
        first(operater="clip")
    with pytest.raises(UserError, match="no matching 'pd' in DPIAT"):
        first(matching="pd")


RECIPE = Recipe((BlockRef("cnn", 0, 3), BlockRef("vit", 1, 3), BlockRef("cnn", 8, 12)))


def centre(tensor: Tensor, shape: torch.Size) -> Tensor:
    """The centre crop of appendix A.2, where the source is not smaller."""
    for dim, size in enumerate(shape):
        tensor = tensor.narrow(dim, (tensor.shape[dim] - size) // 2, size)
    return tensor


def test_dpiat_fills_stitches_and_head_and_says_from_where(zoo: Any) -> None:
    net = assemble(RECIPE, zoo, "dpiat", num_classes=5)
    plain = assemble(RECIPE, zoo, "random", num_classes=5)
    (report,) = net.init_reports
    pieces = {piece["piece"]: piece for piece in report.facts["pieces"]}
    assert list(pieces) == ["stitches.0", "stitches.1", "head"]
    cuts = zoo["cnn"].graph.nodes
    assert pieces["stitches.0"]["source"] == f"vit.{zoo['vit'].graph.nodes[0].name}"
    assert pieces["stitches.1"]["source"] == f"cnn.{cuts[7].name}"
    assert pieces["head"]["source"] == "cnn.head"
    new = {n: t for n, t in net.state_dict().items() if n.startswith(("stitches", "head"))}
    old = plain.state_dict()
    changed = sum(int((t != old[n]).sum()) for n, t in new.items())
    assert (report.changed, report.values) == (changed, sum(t.numel() for t in new.values()))
    assert not report.fitted
    # The head: 5 of 7 classes, and the middle of the source's features, by appendix A.2.
    source = zoo["cnn"].module.classifier
    out, channels = net.head.weight.shape
    assert torch.equal(net.head.bias, centre(source.bias, net.head.bias.shape))
    expected = centre(source.weight, torch.Size([out, min(channels, source.in_features)]))
    assert torch.equal(centre(net.head.weight, expected.shape), expected)
    assert all(
        torch.equal(t, old[n]) for n, t in net.state_dict().items() if n.startswith("blocks")
    )
