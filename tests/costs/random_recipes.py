"""Random recipes, and networks of them."""

import random

from torch import nn

from zoo_search.networks import BlockRef, Recipe, assemble


def random_recipes(graphs, n: int, seed: int = 0, taps: str = "last") -> list[Recipe]:
    """Recipes of one to five short blocks; some neighbours, some with the source's head.

    With ``taps="blocks"`` the others' heads read every block.
    """
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
        head = ("source", "last") if whole else ("target", taps)
        recipes.append(Recipe(tuple(blocks), *head))
    return recipes


def build(recipe: Recipe, graphs) -> nn.Module:
    """The network, on the zoo's own modules unless the recipe takes one of them twice."""
    nodes = [(b.model, node) for b in recipe.blocks for node in range(b.start, b.stop)]
    twice = len(set(nodes)) < len(nodes)
    return assemble(recipe, graphs, init="random", num_classes=11, copy_blocks=twice)
