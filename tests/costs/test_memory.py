"""Peak memory against figures by hand, and against the built network."""

import random

import pytest
import torch
from costs.random_recipes import build, random_recipes
from torch import nn
from torch.nn import functional as F

from zoo_search.costs import CostTable
from zoo_search.costs.memory import MemoryTable, peak_memory
from zoo_search.linegraph import Cut, LineGraph
from zoo_search.linegraph.graph import Node
from zoo_search.networks import BlockRef, Recipe, Stitch
from zoo_search.networks.network import Pool

PIXEL = 4 * 100  # bytes of one fp32 channel of 10 x 10


class Residual(nn.Module):
    """``relu(x) + b(a(x))``, with ``x`` needed until the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 16, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.a(x)
        return self.b(inner) + F.relu(x)


class Views(nn.Module):
    """A view of the input, a copy of it in another order, and a sum."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).view(1, 4, 100).transpose(1, 2).contiguous().sum((1, 2))


@pytest.mark.parametrize(
    ("module", "channels"),
    [
        # Channels alive at once, by hand.
        (nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.Conv2d(16, 8, 1)), 16 + 8),
        (nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.Conv2d(16, 2, 1)), 4 + 16),
        (nn.Sequential(nn.Conv2d(4, 16, 1), nn.ReLU()), 16 + 16),
        (nn.Sequential(nn.Conv2d(4, 16, 1), nn.ReLU(inplace=True)), 4 + 16),
        (Residual(), 4 + 16 + 4),  # x, inner and b(inner); then x, b(inner), relu(x)
        (nn.Sequential(nn.Identity(), nn.Identity()), 4),
        (Views(), 4 + 4),
    ],
)
def test_peak_memory_is_that_computed_by_hand(module, channels):
    peak, out = peak_memory(module, torch.zeros(1, 4, 10, 10))
    assert peak == channels * PIXEL
    assert not out.requires_grad


@pytest.mark.parametrize(("taps", "recipes"), [("last", 100), ("blocks", 60)])
def test_peak_memory_of_a_recipe_is_that_of_the_built_network(mixed, taps, recipes):
    table = CostTable(mixed, num_classes=11, measure=["memory"])
    seen = set()
    for recipe in random_recipes(mixed, recipes, seed=2, taps=taps):
        net = build(recipe, mixed)
        peak, _ = peak_memory(net, torch.zeros(1, *net.input_size))
        assert table.cost(recipe).memory == peak, str(recipe)
        seen.add(peak)
    assert len(seen) >= 8


def test_peak_memory_of_any_chain_of_parts_is_the_largest_of_theirs(mixed):
    """Chains that do not start at the image, whose first blocks would hide all others."""
    table = MemoryTable(mixed, num_classes=11)
    rng, seen = random.Random(3), set()
    for recipe in random_recipes(mixed, 150, seed=3):
        start = rng.randrange(2, len(mixed[recipe.blocks[0].model]))
        first = BlockRef(recipe.blocks[0].model, start, start + 1)
        later = [b for b in recipe.blocks[1:] if b.start > 1]
        chain = Recipe((first, *later))
        peak, _ = peak_memory(parts_of(chain, mixed), x_at(chain, mixed))
        assert table.peak(chain) == peak, str(chain)
        seen.add(peak)
    assert len(seen) >= 15


class Transposed(nn.Module):
    """Gives a view that is not contiguous."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(2, 3)


class Reshaped(nn.Module):
    """Takes a contiguous input as it is, and copies another."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, -1).view(x.shape)


@pytest.mark.parametrize(("first", "channels"), [(Transposed(), 3 + 3), (nn.Identity(), 3)])
def test_memory_goes_by_the_strides_in_which_a_tensor_comes(first, channels):
    cuts = tuple(Cut(i, f"n{i}", "nchw", 3, (10, 10)) for i in range(3))
    nodes = tuple(Node(i, f"n{i}", module, 0, 0) for i, module in enumerate((first, Reshaped())))
    graph = LineGraph("net", (3, 10, 10), nodes, cuts, nn.Identity(), 0, 0)
    recipe = Recipe((BlockRef("net", 0, 1), BlockRef("net", 1, 2)), "source")
    assert MemoryTable({"net": graph}, 2).peak(recipe) == channels * PIXEL


def parts_of(chain: Recipe, graphs) -> nn.Module:
    """A plain sequence of the nodes, stitches and head of a chain."""
    parts: list[nn.Module] = []
    for position, block in enumerate(chain.blocks):
        before = chain.blocks[position - 1]
        if position and not before.precedes(block):
            source, target = graphs[before.model].cuts[before.stop], graphs[block.model].cuts
            parts.append(Stitch(source, target[block.start]))
        parts += [node.module for node in graphs[block.model].nodes[block.start : block.stop]]
    cut = graphs[chain.blocks[-1].model].cuts[chain.blocks[-1].stop]
    return nn.Sequential(*parts, Pool(cut), nn.Linear(cut.channels, 11)).eval()


def x_at(chain: Recipe, graphs) -> torch.Tensor:
    first = chain.blocks[0]
    return torch.zeros(1, *graphs[first.model].cuts[first.start].shape)


def test_memory_does_not_depend_on_where_a_model_is_cut(mixed):
    table = CostTable(mixed, num_classes=11, measure=["memory"])
    for name, graph in mixed.items():
        whole = Recipe.whole(name, len(graph))
        pieces = Recipe(tuple(BlockRef(name, i, i + 1) for i in range(len(graph))))
        assert table.cost(whole).memory == table.cost(pieces).memory


def test_bounds_on_memory_hold_and_are_nearly_always_met(mixed):
    stages = [[BlockRef(name, 0, 2) for name in mixed], [BlockRef(name, 2, 4) for name in mixed]]
    table = CostTable(mixed, num_classes=11, measure=["memory"])
    bounds = table.memory.bounds(stages)
    met = 0
    for a in stages[0]:
        for b in stages[1]:
            least = max(bounds[a], bounds[b], bounds[a, b])
            peak = table.cost(Recipe((a, b))).memory
            assert least <= peak
            met += least == peak
    assert met >= 0.9 * len(stages[0]) * len(stages[1])
