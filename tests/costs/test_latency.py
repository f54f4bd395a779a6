"""Latency added up from its parts, with clocks that are set by hand."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from zoo_search.costs import CostTable
from zoo_search.costs.budget import NANOSECONDS
from zoo_search.costs.latency import LatencyTable, Timer, additive_error
from zoo_search.linegraph import Cut, LineGraph
from zoo_search.linegraph.graph import Node
from zoo_search.networks import BlockRef, Recipe, Stitch, assemble
from zoo_search.networks.network import ReassembledNet


class Takes(nn.Module):
    """A node that says how many milliseconds it takes."""

    def __init__(self, milliseconds: float) -> None:
        super().__init__()
        self.milliseconds = milliseconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class ByHand(Timer):
    """Adds up what the nodes of a module say; a stitch takes 2 ms, a head 1, a whole network 3."""

    def __call__(self, module: nn.Module, shape: Sequence[int]) -> int:
        module(torch.zeros(1, *shape))  # what it is given, it can run on
        parts = list(module.modules())
        total = sum(part.milliseconds for part in parts if isinstance(part, Takes))
        total += sum({Stitch: 2, nn.Linear: 1, ReassembledNet: 3}.get(type(p), 0) for p in parts)
        return round(total * NANOSECONDS)


@pytest.fixture
def graphs() -> dict[str, LineGraph]:
    """Two models whose nodes take 10, 20 and 40, and 15, 30 and 60 milliseconds."""
    graphs = {}
    for name, times in (("a", (10, 20, 40)), ("b", (15, 30, 60))):
        cuts = tuple(Cut(i, f"{name}{i}", "nchw", 3, (4, 4)) for i in range(4))
        nodes = tuple(Node(i, f"{name}{i}", Takes(t), 0, 0) for i, t in enumerate(times))
        graphs[name] = LineGraph(name, (3, 4, 4), nodes, cuts, nn.Identity(), 0, 0)
    return graphs


def test_latency_adds_up_and_its_error_is_against_the_whole(graphs):
    recipe = Recipe((BlockRef("a", 0, 2), BlockRef("b", 1, 2), BlockRef("b", 2, 3)))
    latency = LatencyTable(graphs, 5, ByHand())
    table = CostTable(graphs, 5, ["latency"], latency)
    assert latency.measured == {}  # nothing before it is asked for
    assert table.cost(recipe).latency == 10 + 20 + 30 + 60 + 2 + 1  # with a stitch and a head
    parts = dict(latency.measured)
    assert {key.split()[0] for key in parts} == {"block", "stitch", "head"}
    assert len(parts) == 5  # three blocks, one stitch (b's two are neighbours), one head
    assert sum(parts.values()) == 123 * NANOSECONDS
    kept = {key: 2 * value for key, value in parts.items()}  # not measured again
    assert LatencyTable(graphs, 5, ByHand(), kept).recipe(recipe) == 246 * NANOSECONDS
    net = assemble(recipe, graphs, init="random", num_classes=5)
    error = additive_error(latency, [net])
    assert error.recipes == 1
    assert error.median == error.worst == pytest.approx(3 / 126)
    wrong = additive_error(LatencyTable(graphs, 5, ByHand(), kept), [net])
    assert wrong.worst == pytest.approx(120 / 126)


def test_a_timer_takes_the_median_and_gives_the_threads_back(monkeypatch):
    clock = 0
    monkeypatch.setattr("zoo_search.costs.latency.time.perf_counter_ns", lambda: clock)
    times = iter([50, 1, 30, 2, 3, 60])  # the first warms up

    class Varying(nn.Module):
        def forward(self, x):
            nonlocal clock
            assert x.shape == (4, 3, 2, 2)
            assert torch.is_inference_mode_enabled()
            assert torch.get_num_threads() == 1
            assert (torch.full((8,), 1e-40) * 0.5).sum() == 0
            clock += next(times)
            return x

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    timer = Timer(batch=4, threads=1, device="cpu", warmup=1, repeats=5)
    assert timer(Varying(), (3, 2, 2)) == 3
    assert torch.get_num_threads() == 2
    assert (torch.full((8,), 1e-40) * 0.5).sum() > 0
    torch.set_num_threads(before)


def test_a_timer_measures_real_time():
    wide, narrow = (nn.Linear(size, size) for size in (2048, 32))
    timer = Timer(warmup=2, repeats=5, device="cpu", threads=1)
    assert timer(wide, (2048,)) > timer(narrow, (32,)) > 0
