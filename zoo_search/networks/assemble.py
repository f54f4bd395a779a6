"""From a recipe to a network."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo_search.core.errors import UserError
from zoo_search.core.identity import generator
from zoo_search.hooks import Context, Init, Piece, as_hooks, start
from zoo_search.networks.fitter import StitchFitter
from zoo_search.networks.network import ReassembledNet
from zoo_search.networks.parents import Models, Parents, device_of
from zoo_search.networks.recipe import BlockRef, Recipe, RecipeDict
from zoo_search.networks.stitch import Stitch
from zoo_search.networks.target_images import Images


def assemble(
    recipe: Recipe | Mapping[str, object] | RecipeDict | str | Path,
    zoo: Models,
    init: Init = "least_squares",
    images: Images | None = None,
    labels: Tensor | None = None,
    num_classes: int | None = None,
    seed: int = 0,
    *,
    fitter: StitchFitter | None = None,
    class_weights: Tensor | None = None,
    copy_blocks: bool = True,
) -> ReassembledNet:
    """Build the network of a recipe (DeRy section 3.3).

    A recipe that is a whole zoo model with ``head="source"`` gives that model's outputs to the
    last bit. The network comes in eval mode; what the hooks did is in its ``init_reports``.

    Args:
        recipe: A recipe, its mapping, or the path of its YAML file.
        zoo: Models (or line graphs) by name.
        init: How stitches and head start, from seeded random values on: a hook or an ordered list
            of hooks (:func:`zoo_search.hooks.as_hooks`). ``"least_squares"`` needs ``images``, and
            ``labels`` for the head (:mod:`~.networks.least_squares`); ``"dpiat"`` takes from
            the models that the next block and the last block come from
            (:mod:`zoo_search.dpiat.hook`); ``"random"`` leaves Kaiming's initialisation.
        images: ``[N, C, H, W]``, a few hundred. uint8 images are raw and are normalised for each
            model by its own transform; float images are taken as normalised for the first block's
            model and are given to the other models as they are. A mapping gives each model the
            same images in its own size.
        labels: ``[N]`` class indices of ``images``.
        num_classes: Classes of the target head; default: ``labels.max() + 1``.
        seed: Seed of everything random.
        fitter: Fits and caches stitches across recipes; made from ``images`` by default, and then
            chained, which fits this one recipe best.
        class_weights: How much an image of each class counts in the fit of a new head,
            ``[classes]``; default: all classes alike.
        copy_blocks: False takes the zoo's own modules, for networks that are only looked at.

    Raises:
        UserError: If the recipe does not fit the zoo, a hook is unknown or fails, or ``images`` or
            ``num_classes`` are missing.
    """
    recipe, hooks, parents = Recipe.from_any(recipe), as_hooks(init), Parents(zoo)
    recipe.check(parents)
    if fitter is None and images is not None:
        fitter = StitchFitter(zoo, images, chained=True)
    classes = _classes(recipe, labels, num_classes) if recipe.head == "target" else 0
    net = build_network(recipe, parents, classes, seed, copy_blocks=copy_blocks)
    first = recipe.blocks[0].model
    context = Context(
        role="candidate",
        name=str(recipe),
        pieces=_pieces(net, parents),
        seed=seed,
        inputs=None if fitter is None else lambda: torch.cat(list(fitter.own(first, 0))),
        labels=labels,
        fitter=fitter,
        class_weights=class_weights,
    )
    net.init_reports = start(net, context, hooks)
    return net


def build_network(
    recipe: Recipe, zoo: Models, classes: int, seed: int = 0, *, copy_blocks: bool = True
) -> ReassembledNet:
    """Return the network of a checked recipe, in eval mode, with random stitches and target head.

    Each stitch has a ``seed`` of its own, whatever recipe it stands in. ``copy_blocks=False`` takes
    the zoo's own modules.
    """
    parents = Parents(zoo)
    stitches = [_stitch(parents, *joint, seed) for joint in itertools.pairwise(recipe.blocks)]
    blocks, head = _blocks(recipe, parents, copy_blocks)
    last, first = recipe.blocks[-1], parents[recipe.blocks[0].model]
    graph = parents[last.model].graph
    cut = graph.cuts[last.stop]
    before = recipe.blocks[:-1] if recipe.tapped else ()
    tapped = [parents[block.model].graph.cuts[block.stop] for block in before]
    if recipe.head == "target":
        channels = cut.channels + sum(own.channels for own in tapped)
        head = _target_head(channels, classes, seed).to(device_of(graph))
    size = first.graph.input_size
    net = ReassembledNet(recipe, blocks, stitches, head, cut, size, first.transform, tapped)
    return net.eval()


def _stitch(parents: Parents, before: BlockRef, after: BlockRef, seed: int) -> nn.Module:
    if before.precedes(after):
        return nn.Identity()
    source, target = parents[before.model].graph, parents[after.model].graph
    random = generator(seed, f"{before.model}/{before.stop} {after.model}/{after.start}")
    stitch = Stitch(source.cuts[before.stop], target.cuts[after.start]).reset(random)
    return stitch.to(device_of(target))


def _pieces(net: ReassembledNet, parents: Parents) -> tuple[Piece, ...]:
    """Return the stitches and the new head as pieces.

    A stitch's donor makes the same output in the next block's model; the head's is the head of the
    last block's model, but a head that reads more blocks has none: no model's head reads them all.
    """
    pieces = []
    for i, (stitch, after) in enumerate(zip(net.stitches, net.recipe.blocks[1:], strict=True)):
        if isinstance(stitch, Stitch):
            nodes = parents[after.model].graph.nodes[: after.start]
            donors = {f"{after.model}.{nodes[-1].name}": nodes[-1].module} if nodes else {}
            pieces.append(Piece(f"stitches.{i}", stitch, donors))
    if net.recipe.head == "target":
        model = net.recipe.blocks[-1].model
        donors = {} if net.taps else {f"{model}.head": parents[model].graph.head}
        pieces.append(Piece("head", net.head, donors))
    return tuple(pieces)


def _blocks(recipe: Recipe, parents: Parents, copied: bool) -> tuple[list[nn.Module], nn.Module]:
    """Return one module a block and the last model's head.

    Neighbours (and the head) are copied together, so that what they share stays shared.
    """
    blocks: list[nn.Module] = []
    head: nn.Module = nn.Identity()
    for number, run in enumerate(recipe.runs):
        graph = parents[run.model].graph
        last = number == len(recipe.runs) - 1 and recipe.head == "source"
        # One deep copy of a whole run, cut into blocks afterwards: what two of its blocks share
        # (relative position tables, for one) would come apart in two copies.
        modules = [node.module for node in graph.nodes[run.start : run.stop]]
        top = graph.head if last else nn.Identity()
        if copied:
            modules, top = copy.deepcopy((modules, top))
        head = top if last else head
        for block in recipe.blocks[len(blocks) :]:
            part = modules[block.start - run.start : block.stop - run.start]
            blocks.append(nn.Sequential(*part))
            if block.stop == run.stop:
                break
    return blocks, head


def _classes(recipe: Recipe, labels: Tensor | None, num_classes: int | None) -> int:
    if num_classes is not None:
        return num_classes
    if labels is None:
        raise UserError(
            f"The recipe {recipe} ends in a new head (head: target), but the number of classes is "
            "not known. Pass num_classes=… or labels=…, or take 'head: source'."
        )
    return int(labels.max()) + 1


def _target_head(channels: int, classes: int, seed: int) -> nn.Linear:
    head, random = nn.Linear(channels, classes), generator(seed, f"head {channels} {classes}")
    nn.init.normal_(head.weight, std=0.01, generator=random)
    nn.init.zeros_(head.bias)
    return head
