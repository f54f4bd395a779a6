"""Costs from tables against the built network."""

import itertools
import math

import pytest
import torch
from costs.random_recipes import build, random_recipes
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from zoo_search.costs import Cost, CostTable
from zoo_search.linegraph import count


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


@pytest.mark.parametrize(
    "number",
    [pytest.param(60, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.exhaustive)],
)
def test_tables_say_what_built_networks_count(mixed, number):
    """MACs by the formulas above, on a real forward pass; for some by torch's counter as well."""
    table = CostTable(mixed, num_classes=11)
    recipes = random_recipes(mixed, number)
    assert len({recipe.key for recipe in recipes}) > 0.75 * number
    for place, recipe in enumerate(recipes):
        net, cost = build(recipe, mixed), table.cost(recipe)
        with torch.no_grad(), Formulas() as formulas:
            net(torch.zeros(1, *net.input_size))
        params = sum(parameter.numel() for parameter in net.parameters())
        assert cost == Cost(params, formulas.macs), str(recipe)
        if place % 10 == 0:
            assert (cost.params, cost.macs) == count(net, net.input_size)


def test_a_head_on_every_block_costs_what_the_built_one_counts(mixed):
    """And the units of blocks, joints and head, which the integer program adds up, are its sum."""
    table = CostTable(mixed, num_classes=11)
    space = table.tapping("blocks")
    for recipe in random_recipes(mixed, 25, seed=4, taps="blocks"):
        net, cost = build(recipe, mixed), table.cost(recipe)
        assert (cost.params, cost.macs) == count(net, net.input_size), str(recipe)
        if recipe.taps == "last":
            continue
        blocks = recipe.blocks
        for what in ("params", "macs"):
            total = sum(
                space.units_of_block(block, what, last=place == len(blocks) - 1)
                for place, block in enumerate(blocks)
            )
            total += sum(space.units_of_joint(*joint, what) for joint in itertools.pairwise(blocks))
            assert total == getattr(cost, what)
