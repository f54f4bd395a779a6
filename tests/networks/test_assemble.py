"""From a recipe to a network."""

import copy
import itertools
import pickle
import random

import pytest
import torch
from torch import nn

from zoo_search.core.errors import UserError
from zoo_search.costs import CostTable
from zoo_search.linegraph import count
from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.networks.fitter import StitchFitter

MIXED = Recipe(
    (BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("swin", 2, 5), BlockRef("mlp", 8, 10))
)


def random_recipes(zoo, n: int) -> list[Recipe]:
    """Recipes of one to five blocks; some neighbours, some with the source's head."""
    rng = random.Random(0)
    recipes = []
    while len(recipes) < n:
        blocks: list[BlockRef] = []
        for position in range(rng.randint(1, 5)):
            model = rng.choice(list(zoo))
            nodes = len(zoo[model].graph)
            start = 0 if position == 0 else rng.randrange(nodes)
            if blocks and rng.random() < 0.3 and blocks[-1].stop < len(zoo[blocks[-1].model].graph):
                model, start = blocks[-1].model, blocks[-1].stop
                nodes = len(zoo[model].graph)
            blocks.append(BlockRef(model, start, rng.randint(start + 1, nodes)))
        last = blocks[-1]
        whole = last.stop == len(zoo[last.model].graph)
        recipes.append(Recipe(tuple(blocks), "source" if whole else "target"))
    return recipes


@pytest.mark.parametrize("name", ["cnn", "vit", "mlp", "swin"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_every_zoo_model_is_a_recipe_bit_for_bit(zoo, images, name, pieces):
    nodes = len(zoo[name].graph)
    cuts = [round(nodes * i / pieces) for i in range(pieces + 1)]
    blocks = tuple(BlockRef(name, a, b) for a, b in itertools.pairwise(cuts))
    net = assemble(Recipe(blocks, "source"), zoo)
    assert all(isinstance(stitch, nn.Identity) for stitch in net.stitches)
    assert len(net.blocks) == pieces
    x = net.transform.normalize(images[:5])
    with torch.no_grad():
        assert torch.equal(net(x), zoo[name].module(x))
    assert net.transform is zoo[name].transform


@pytest.mark.parametrize(
    "number",
    [pytest.param(15, marks=pytest.mark.slow), pytest.param(50, marks=pytest.mark.exhaustive)],
)
def test_cost_is_what_the_built_network_counts(zoo, number):
    table = CostTable(zoo, num_classes=11)
    for recipe in random_recipes(zoo, number):
        net = assemble(recipe, zoo, init="random", num_classes=11)
        cost = table.cost(recipe)
        assert (cost.params, cost.macs) == count(net, net.input_size), str(recipe)


def test_random_start_is_seeded_by_the_pair_of_cuts(zoo):
    one = assemble(MIXED, zoo, init="random", num_classes=5, seed=3)
    again = assemble(MIXED, zoo, init="random", num_classes=5, seed=3)
    other = assemble(MIXED, zoo, init="random", num_classes=5, seed=4)
    state, same = one.state_dict(), again.state_dict()
    assert all(torch.equal(state[name], same[name]) for name in state)
    key = "stitches.0.map.weight"
    assert not torch.equal(state[key], other.state_dict()[key])
    # The same joint in another recipe starts the same.
    shorter = Recipe(MIXED.blocks[:2])
    assert torch.equal(
        state[key], assemble(shorter, zoo, "random", num_classes=5, seed=3).state_dict()[key]
    )


def test_stitches_are_shared_by_recipes_with_the_same_prefix(zoo, images):
    fitter = StitchFitter(zoo, images[:32], max_bytes=1)  # keeps hardly any activation
    ample = StitchFitter(zoo, images[:32])
    nets = [assemble(MIXED, zoo, num_classes=3, fitter=f) for f in (fitter, ample, ample)]
    a, b, c = (net.state_dict() for net in nets)
    assert all(torch.equal(a[name], b[name]) and torch.equal(b[name], c[name]) for name in a)
    assert len(ample.r2) == 3


def test_it_is_an_ordinary_module(zoo, images):
    net = assemble(MIXED, zoo, init="random", num_classes=4)
    before = {name: p.clone() for name, p in zoo["cnn"].graph.nodes[0].module.named_parameters()}
    x = net.transform.normalize(images[:2])
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        other.load_state_dict(net.state_dict())
        with torch.no_grad():
            assert torch.equal(other(x), net(x))
    assert net.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16
    net.float().train()
    net(x).sum().backward()
    new = [*net.stitches.parameters(), *net.head.parameters()]
    assert all(p.grad is not None for p in new)
    assert sum(p.numel() for p in new) < sum(p.numel() for p in net.parameters())
    torch.optim.SGD(net.parameters(), lr=1.0).step()
    after = dict(zoo["cnn"].graph.nodes[0].module.named_parameters())
    assert all(torch.equal(after[name], before[name]) for name in before)  # the zoo is untouched


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_classes": 3}, "no images"),
        ({"init": "random"}, "number of classes"),
        ({"init": "least-squares", "num_classes": 3}, "Did you mean 'least_squares'"),
    ],
)
def test_what_is_missing_is_said(zoo, options, words):
    with pytest.raises(UserError, match=words):
        assemble(MIXED, zoo, **options)
