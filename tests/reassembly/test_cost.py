"""Costs from tables against the built network: parameters, MACs, memory and latency."""

import math
import random
import time
from types import SimpleNamespace

import pytest
import timm
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from zoo_search.linegraph import Cut, LineGraph, count, trace
from zoo_search.linegraph.graph import Node
from zoo_search.reassembly import BlockRef, Budget, Cost, CostTable, Recipe, Stitch, assemble
from zoo_search.reassembly.budget import NANOSECONDS
from zoo_search.reassembly.latency import LatencyTable, Timer, additive_error
from zoo_search.reassembly.memory import MemoryTable, peak_memory
from zoo_search.reassembly.network import Pool

QUICK = Timer(warmup=1, repeats=3, device="cpu")


@pytest.fixture(scope="module")
def mixed(zoo) -> dict[str, LineGraph]:
    """CNNs, a ViT, an MLP net and a windowed transformer, with NCHW, NHWC and token cuts."""
    graphs = {name: model.graph for name, model in zoo.items()}
    for name, arch in (("resnet", "resnet10t"), ("convnext", "convnext_atto")):
        module = timm.create_model(arch, num_classes=7).eval()
        graphs[name] = trace(module, (3, 64, 64), name)
    return graphs


def random_recipes(graphs, n: int, seed: int = 0) -> list[Recipe]:
    """Recipes of one to five short blocks; some neighbours, some with the source's head."""
    rng = random.Random(seed)
    recipes = []
    while len(recipes) < n:
        blocks: list[BlockRef] = []
        for position in range(rng.randint(1, 5)):
            model = rng.choice(list(graphs))
            start = 0 if position == 0 else rng.randrange(len(graphs[model]))
            if blocks and rng.random() < 0.3 and blocks[-1].stop < len(graphs[blocks[-1].model]):
                model, start = blocks[-1].model, blocks[-1].stop
            stop = min(len(graphs[model]), start + rng.choice((1, 2, 3, 99)))
            blocks.append(BlockRef(model, start, stop))
        last = blocks[-1]
        whole = last.stop == len(graphs[last.model]) and rng.random() < 0.5
        recipes.append(Recipe(tuple(blocks), "source" if whole else "target"))
    return recipes


class Formulas(TorchFunctionMode):
    """Multiply-adds from shapes, function by function, as they are called."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunction():
            out = func(*args, **(kwargs or {}))
        if func in (torch.conv2d, F.conv2d):
            weight = args[1]
            self.macs += out.numel() * weight[0].numel()
        elif func is F.linear:
            self.macs += out.numel() * args[1].shape[1]
        elif func is F.scaled_dot_product_attention:
            query, key, value = args[:3]
            pairs = math.prod(query.shape[:-1]) * key.shape[-2]
            self.macs += pairs * (key.shape[-1] + value.shape[-1])
        elif getattr(func, "__name__", "") in ("matmul", "__matmul__", "bmm", "einsum"):
            self.macs += out.numel() * args[0].shape[-1]
        return out


def build(recipe: Recipe, graphs) -> nn.Module:
    """The network, on the zoo's own modules unless the recipe takes one of them twice."""
    nodes = [(b.model, node) for b in recipe.blocks for node in range(b.start, b.stop)]
    twice = len(set(nodes)) < len(nodes)
    return assemble(recipe, graphs, init="random", num_classes=11, copy_blocks=twice)


def test_tables_say_what_200_built_networks_count(mixed):
    """MACs by the formulas above, on a real forward pass; for some by torch's counter as well."""
    table = CostTable(mixed, num_classes=11)
    recipes = random_recipes(mixed, 200)
    assert len({recipe.key for recipe in recipes}) > 150
    for number, recipe in enumerate(recipes):
        net, cost = build(recipe, mixed), table.cost(recipe)
        with torch.no_grad(), Formulas() as formulas:
            net(torch.zeros(1, *net.input_size))
        params = sum(parameter.numel() for parameter in net.parameters())
        assert cost == Cost(params, formulas.macs), str(recipe)
        if number % 10 == 0:
            assert (cost.params, cost.macs) == count(net, net.input_size)


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


PIXEL = 4 * 100  # bytes of one fp32 channel of 10 x 10


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


def test_peak_memory_of_a_recipe_is_that_of_the_built_network(mixed):
    table = CostTable(mixed, num_classes=11, measure=["memory"])
    seen = set()
    for recipe in random_recipes(mixed, 100, seed=2):
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
            least = max(bounds.blocks[a], bounds.blocks[b], bounds.joints[a, b])
            peak = table.cost(Recipe((a, b))).memory
            assert least <= peak
            met += least == peak
    assert met >= 0.9 * len(stages[0]) * len(stages[1])


class Sleep(nn.Module):
    """Takes so many milliseconds."""

    def __init__(self, milliseconds: float) -> None:
        super().__init__()
        self.milliseconds = milliseconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.milliseconds / 1000)
        return x


@pytest.fixture
def sleepers() -> dict[str, LineGraph]:
    """Two models whose nodes take 10, 20 and 40, and 15, 30 and 60 milliseconds."""
    graphs = {}
    for name, times in (("a", (10, 20, 40)), ("b", (15, 30, 60))):
        cuts = tuple(Cut(i, f"{name}{i}", "nchw", 3, (4, 4)) for i in range(4))
        nodes = tuple(Node(i, f"{name}{i}", Sleep(t), 0, 0) for i, t in enumerate(times))
        graphs[name] = LineGraph(name, (3, 4, 4), nodes, cuts, nn.Identity(), 0, 0)
    return graphs


def test_latency_adds_up_and_its_error_is_against_the_whole(sleepers):
    recipe = Recipe((BlockRef("a", 0, 2), BlockRef("b", 1, 2), BlockRef("b", 2, 3)))
    latency = LatencyTable(sleepers, 5, QUICK)
    table = CostTable(sleepers, 5, ["latency"], latency)
    assert latency.measured == {}  # nothing before it is asked for
    found = table.cost(recipe).latency
    assert 120.0 <= found < 170.0  # 10 + 20 + 30 + 60, a stitch and a head
    parts = dict(latency.measured)
    assert {key.split()[0] for key in parts} == {"block", "stitch", "head"}
    assert len(parts) == 5  # three blocks, one stitch (b's two are neighbours), one head
    assert found == pytest.approx(sum(parts.values()) / 1e6, abs=1e-6)
    assert table.cost(recipe).latency == found  # kept, not measured again
    assert LatencyTable(sleepers, 5, QUICK, parts).recipe(recipe) == sum(parts.values())
    net = assemble(recipe, sleepers, init="random", num_classes=5)
    error = additive_error(latency, [(recipe, net)])
    assert error.recipes == 1
    assert error.median == error.worst < 0.2
    doubled = {key: 2 * value for key, value in parts.items()}
    wrong = additive_error(LatencyTable(sleepers, 5, QUICK, doubled), [(recipe, net)])
    assert wrong.worst == pytest.approx(1.0, abs=0.3)


def test_a_timer_takes_the_median_and_gives_the_threads_back():
    times = iter([50.0, 1.0, 30.0, 2.0, 3.0, 60.0])

    class Varying(nn.Module):
        def forward(self, x):
            assert x.shape == (4, 3, 2, 2)
            assert torch.is_inference_mode_enabled()
            assert torch.get_num_threads() == 1
            assert (torch.full((8,), 1e-40) * 0.5).sum() == 0
            time.sleep(next(times) / 1000)
            return x

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    timer = Timer(batch=4, threads=1, device="cpu", warmup=1, repeats=5)
    assert 3.0 <= timer(Varying(), (3, 2, 2)) / 1e6 < 25.0
    assert torch.get_num_threads() == 2
    assert (torch.full((8,), 1e-40) * 0.5).sum() > 0
    torch.set_num_threads(before)


def test_costs_one_after_the_other():
    one, two = Cost(1, 2, 0.5, 100), Cost(10, 20, 0.25, 70)
    assert one + two == Cost(11, 22, 0.75, 100)
    assert one + Cost(1, 1) == Cost(2, 3)
    assert str(Cost(2_000_000, 5_000_000, 1.5, 3_000_000)) == (
        "2 M parameters, 0.005 GMACs, 1.5 ms, 3 MB of activations"
    )


@given(st.integers(1, 10**13))
@example(4_150_230)  # over a million and times a million in floats: 4150229.9999999995
def test_a_limit_of_milliseconds_admits_what_takes_exactly_that(nanoseconds):
    latency = nanoseconds / NANOSECONDS
    same, less = Budget(max_latency_ms=latency), Budget(max_latency_ms=math.nextafter(latency, 0))
    assert same.limits[0].high == nanoseconds
    assert less.limits[0].high == nanoseconds - 1
    assert same.admits(Cost(1, 1, latency))
    assert not less.admits(Cost(1, 1, latency))


def test_budgets_of_latency_and_memory():
    budget = Budget(max_latency_ms=1.5, max_memory=1000)
    assert budget.measures == {"latency", "memory"}
    assert budget.admits(Cost(1, 1, 1.5, 1000))
    assert not budget.admits(Cost(1, 1, 1.500001, 1000))
    assert not budget.admits(Cost(1, 1, 1.5, 1001))
    assert budget.excess(Cost(1, 1, 3.0, 1500)) == pytest.approx(1.5)
    assert str(budget) == "latency <= 1.5 ms, peak activation memory <= 1000 bytes"
    with pytest.raises(ValueError, match="not measured"):
        budget.admits(Cost(1, 1))
    limits = SimpleNamespace(
        max_params=1.0, max_macs=None, min_params=0, min_macs=2.5, max_latency_ms=None,
        max_memory=7.9, licenses=["MIT"],
    )  # fmt: skip
    budget = Budget.of(limits)
    assert [(x.what, x.low, x.high) for x in budget.limits] == [
        ("params", 0, 1), ("macs", 3, None), ("memory", 0, 7),
    ]  # fmt: skip
    assert [budget.licensed(x) for x in ("mit", " MIT ", "apache-2.0", None)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert Budget().licensed(None)
