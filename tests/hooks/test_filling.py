"""What the hooks of a run fill: models of the zoo, stitches and heads."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import zoo_search as zs
from zoo_search import dpiat
from zoo_search.config import HookConfig, load_job
from zoo_search.errors import UserError
from zoo_search.hooks import Context
from zoo_search.reassembly import BlockRef, Recipe, assemble
from zoo_search.zoo import list_zoo, load_zoo

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 2}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    found = {}
    for seed, (name, arch, kwargs) in enumerate(
        [("cnn", "mobilenetv3_small_050", {}), ("vit", "vit_tiny_patch16_224", SMALL)]
    ):
        torch.manual_seed(seed)
        found[name] = str(folder / f"{name}.safetensors")
        save_file(timm.create_model(arch, **kwargs).state_dict(), found[name])
    return found


def job(files: dict[str, str], new: dict[str, Any], **more: Any) -> dict[str, Any]:
    zoo = {
        "cnn": {"arch": "mobilenetv3_small_050", "weights": files["cnn"], "license": "mit",
                "mean": [0.1, 0.2, 0.3]},
        "vit": {"arch": "vit_tiny_patch16_224", "kwargs": SMALL, "weights": files["vit"],
                "license": "apache-2.0"},
        "new": {"weights": None, **new},
    }  # fmt: skip
    return {"name": "t", "dataset": "digits", "input_size": 32, "zoo": zoo, **more}


def test_a_model_without_weights_takes_from_the_most_similar_one(files: dict[str, str]) -> None:
    zoo = load_zoo(job(files, {"arch": "mobilenetv3_small_075"}))
    new, cnn = zoo["new"], zoo["cnn"]
    assert dpiat.rank_sources(new.module, {n: zoo[n] for n in ("cnn", "vit")})[0][0] == "cnn"
    alone = load_zoo(job(files, {"arch": "mobilenetv3_small_075"}, init="random"))["new"].module
    told = dpiat.transfer(cnn.module, alone)
    assert all(
        torch.equal(a, b)
        for a, b in zip(alone.state_dict().values(), new.module.state_dict().values(), strict=True)
    )
    (report,) = new.init
    assert (report["hook"], report["role"], report["facts"]["source"]) == ("dpiat", "zoo", "cnn")
    assert report["facts"]["similarity"] == pytest.approx(told.similarity, abs=1e-6)
    assert report["facts"]["coverage"] == pytest.approx(told.coverage, abs=1e-6)
    # What was copied comes under the donor's licence and wants the donor's pixels.
    assert (new.license, new.transform.mean) == ("mit", (0.1, 0.2, 0.3))
    assert list_zoo(zoo)[2].init == new.init


def test_the_donor_may_be_named(files: dict[str, str]) -> None:
    new = load_zoo(job(files, {"arch": "mobilenetv3_small_075", "source": "vit"}))["new"]
    assert new.init[0]["facts"]["source"] == "vit"
    assert new.license == "apache-2.0"
    assert new.source.startswith("dpiat from vit (similarity 0.")


def test_operators_of_dpiat_are_options(files: dict[str, str]) -> None:
    def first(**options: Any) -> Tensor:
        hook = {"hook": "dpiat", "options": options}
        zoo = load_zoo(job(files, {"arch": "mobilenetv3_small_075"}, init=[hook]))
        weight: Tensor = zoo["new"].module.get_parameter("conv_stem.weight")
        return weight

    assert torch.equal(first(), first(operator="clip", matching="dp"))
    assert not torch.equal(first(), first(matching="random"))
    with pytest.raises(UserError, match=r"no option 'operater'.*Did you mean 'operator'"):
        first(operater="clip")
    with pytest.raises(UserError, match="no matching 'pd' in DPIAT"):
        first(matching="pd")


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ([], r"zoo\.new\.weights is null.*none of them has a part in it"),
        (["least_squares"], r"zoo\.new\.weights is null.*none of them has a part in it"),
        (["test_nothing"], r"zoo\.new\.weights is null.*test_nothing changed nothing. Add dpiat"),
    ],
)
def test_a_model_that_nothing_fills_is_refused(
    files: dict[str, str], init: list[str], words: str
) -> None:
    @zs.register_hook("test_nothing")
    def nothing(module: nn.Module, context: Context) -> None:
        """Leave it."""

    with pytest.raises(UserError, match=words):
        load_zoo(job(files, {"arch": "resnet10t"}, init=init))


def test_random_weights_are_a_choice(files: dict[str, str]) -> None:
    zoo = load_zoo(job(files, {"arch": "resnet10t"}, init=["random"]))
    assert zoo["new"].init[0]["changed"] == 0
    assert zoo["new"].license is None


@pytest.fixture(scope="module")
def zoo(files: dict[str, str]) -> Any:
    return load_zoo(job(files, {"arch": "resnet10t"}))


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
    # The head: 5 of 1,000 classes, and the middle of the source's features, by appendix A.2.
    source = zoo["cnn"].module.classifier
    out, channels = net.head.weight.shape
    assert torch.equal(net.head.bias, centre(source.bias, net.head.bias.shape))
    expected = centre(source.weight, torch.Size([out, min(channels, source.in_features)]))
    assert torch.equal(centre(net.head.weight, expected.shape), expected)
    assert all(
        torch.equal(t, old[n]) for n, t in net.state_dict().items() if n.startswith("blocks")
    )


def test_hooks_of_a_candidate_follow_each_other(zoo: Any) -> None:
    images = torch.randint(0, 256, (48, 3, 32, 32), dtype=torch.uint8)
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
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
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
    assert seen == {"shape": (16, 3, 32, 32), "role": "candidate", "labels": None}
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
