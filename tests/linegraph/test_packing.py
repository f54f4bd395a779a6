"""Several streams as one tensor: nothing is lost, every element keeps its place in the image."""

from __future__ import annotations

import pytest
import timm
import torch

from zoo_search.linegraph import trace
from zoo_search.linegraph.packing import PackMaps, PackTokens, UnpackMaps, UnpackTokens
from zoo_search.networks.stitch import Stitch


@pytest.mark.parametrize("sizes", [[(3, 8, 8), (5, 4, 4)], [(2, 11, 7), (4, 6, 4), (1, 3, 2)]])
def test_maps_come_back(sizes: list[tuple[int, int, int]]) -> None:
    maps = [torch.randn(2, *size) for size in sizes]
    pack = PackMaps(min(size[1:] for size in sizes))
    packed = pack(maps)
    back = UnpackMaps(pack, tuple(sizes))(packed)
    assert packed.shape[2:] == pack.grid
    assert all(torch.equal(a, b) for a, b in zip(back, maps, strict=True))
    back[0].zero_()
    assert torch.equal(UnpackMaps(pack, tuple(sizes))(packed)[0], maps[0])


def test_a_pixel_stays_in_its_cell() -> None:
    fine, coarse = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4)
    fine[0, 0, 5, 2] = 1.0
    packed = PackMaps((4, 4))([fine, coarse])
    assert packed[0].sum(0).nonzero().tolist() == [[2, 1]]


def test_tokens_come_back() -> None:
    inside, cells = torch.randn(2 * 6, 4, 3), torch.randn(2, 1 + 6, 5)
    pack = PackTokens(main=1)
    packed = pack([inside, cells])
    assert packed.shape == (2, 7, 5 + 12)
    assert not packed[:, 0, 5:].any()
    assert torch.equal(packed[1, 3, 5:], inside[6 + 2].flatten())
    back = UnpackTokens(pack, 6, ((4, 3), (7, 5)))(packed)
    assert torch.equal(back[0], inside)
    assert torch.equal(back[1], cells)


@pytest.mark.parametrize(
    ("name", "nodes", "streams"),
    [
        ("nasnetalarge", 21, 2),  # 22 cells; behind one the packed map would be too deep
        ("tnt_s_patch16_224", 12, 2),
        ("hrnet_w18_small_v2", 10, 4),
    ],
)
def test_streams_of_a_model(name: str, nodes: int, streams: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    graph = trace(model, model.pretrained_cfg["input_size"], name)
    assert len(graph) == nodes
    assert max(cut.streams for cut in graph.cuts) == streams
    assert graph.cuts[0].streams == graph.cuts[-1].streams == 1
    assert graph.params == sum(p.numel() for p in model.parameters())


def test_one_stream_is_never_packed() -> None:
    with torch.device("meta"):
        graph = trace(timm.create_model("densenet121"), (3, 64, 64))
    assert {cut.streams for cut in graph.cuts} == {1}


def test_a_stitch_leads_into_packed_streams() -> None:
    torch.manual_seed(0)
    before = trace(timm.create_model("resnet18").eval(), (3, 64, 64), "resnet18")
    after = trace(timm.create_model("hrnet_w18_small").eval(), (3, 64, 64), "hrnet")
    packed = next(cut for cut in after.cuts if cut.streams == 3)
    stitch = Stitch(before.cuts[4], packed)
    x = stitch(before.block(0, 4)(torch.randn(2, 3, 64, 64)))
    assert tuple(x.shape[1:]) == packed.shape
    out = after.block(packed.index, len(after))(x)
    assert tuple(out.shape[1:]) == after.cuts[-1].shape
    out.square().mean().backward()
    assert all(parameter.grad is not None for parameter in stitch.parameters())
