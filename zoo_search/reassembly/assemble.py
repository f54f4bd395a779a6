"""From a recipe to a network."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo_search.errors import UserError
from zoo_search.hooks import Context, Init, Piece, as_hooks, start
from zoo_search.linegraph.graph import LineGraph
from zoo_search.reassembly.features import Images, StitchFitter, device_of
from zoo_search.reassembly.network import ReassembledNet
from zoo_search.reassembly.recipe import BlockRef, HasGraph, Recipe, graph_of
from zoo_search.reassembly.stitch import Stitch

__all__ = ["assemble", "build_network", "seeded"]


def assemble(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    zoo: Mapping[str, LineGraph | HasGraph],
    init: Init = "least_squares",
    images: Images | None = None,
    labels: Tensor | None = None,
    num_classes: int | None = None,
    seed: int = 0,
    *,
    fitter: StitchFitter | None = None,
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
            ``labels`` for the head (:mod:`zoo_search.reassembly.starts`); ``"dpiat"`` takes from
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
        copy_blocks: False takes the zoo's own modules, for networks that are only looked at.

    Raises:
        UserError: If the recipe does not fit the zoo, a hook is unknown or fails, or ``images`` or
            ``num_classes`` are missing.
    """
    recipe, hooks = Recipe.from_any(recipe), as_hooks(init)
    recipe.check(zoo)
    if fitter is None and images is not None:
        fitter = StitchFitter(zoo, images, chained=True)
    classes = _classes(recipe, labels, num_classes) if recipe.head == "target" else 0
    net = build_network(recipe, zoo, classes, seed, copy_blocks=copy_blocks)
    context = Context(
        role="candidate",
        name=str(recipe),
        pieces=(*_joints(net, zoo), *_head(net, zoo)),
        seed=seed,
        inputs=None if fitter is None else lambda: torch.cat(list(fitter.own(_first(recipe), 0))),
        labels=labels,
        fitter=fitter,
    )
    net.init_reports = start(net, context, hooks)
    return net


def build_network(
    recipe: Recipe,
    zoo: Mapping[str, LineGraph | HasGraph],
    classes: int,
    seed: int = 0,
    *,
    copy_blocks: bool = True,
) -> ReassembledNet:
    """Return the network of a checked recipe, in eval mode, with random stitches and target head.

    Args:
        recipe: The recipe.
        zoo: Models (or line graphs) by name.
        classes: Classes of the target head.
        seed: Seed of the random values; each stitch has its own, whatever recipe it stands in.
        copy_blocks: False takes the zoo's own modules.
    """
    stitches = [
        _stitch(zoo, before, after, seed)
        for before, after in zip(recipe.blocks, recipe.blocks[1:], strict=False)
    ]
    blocks, head = _blocks(recipe, zoo, copy_blocks)
    last, first = recipe.blocks[-1], zoo[_first(recipe)]
    cut = graph_of(zoo[last.model]).cuts[last.stop]
    if recipe.head == "target":
        head = _target_head(cut.channels, classes, seed)
        head.to(device_of(graph_of(zoo[last.model])))
    size, transform = graph_of(first).input_size, getattr(first, "transform", None)
    return ReassembledNet(recipe, blocks, stitches, head, cut, size, transform).eval()


def _first(recipe: Recipe) -> str:
    return recipe.blocks[0].model


def _stitch(
    zoo: Mapping[str, LineGraph | HasGraph], before: BlockRef, after: BlockRef, seed: int
) -> nn.Module:
    if before.precedes(after):
        return nn.Identity()
    source, target = graph_of(zoo[before.model]), graph_of(zoo[after.model])
    generator = seeded(seed, f"{before.model}/{before.stop} {after.model}/{after.start}")
    stitch = Stitch(source.cuts[before.stop], target.cuts[after.start]).reset(generator)
    return stitch.to(device_of(target))


def _joints(net: ReassembledNet, zoo: Mapping[str, LineGraph | HasGraph]) -> list[Piece]:
    """Return the stitches as pieces; the donor makes the same output in the next block's model."""
    pieces = []
    for i, (stitch, after) in enumerate(zip(net.stitches, net.recipe.blocks[1:], strict=True)):
        if isinstance(stitch, Stitch):
            nodes = graph_of(zoo[after.model]).nodes[: after.start]
            donors = {f"{after.model}.{nodes[-1].name}": nodes[-1].module} if nodes else {}
            pieces.append(Piece(f"stitches.{i}", stitch, donors))
    return pieces


def _head(net: ReassembledNet, zoo: Mapping[str, LineGraph | HasGraph]) -> list[Piece]:
    """Return the new head as a piece; the donor is the head of the last block's model."""
    if net.recipe.head != "target":
        return []
    model = net.recipe.blocks[-1].model
    return [Piece("head", net.head, {f"{model}.head": graph_of(zoo[model]).head})]


def _blocks(
    recipe: Recipe, zoo: Mapping[str, LineGraph | HasGraph], copied: bool
) -> tuple[list[nn.Module], nn.Module]:
    """Return one module a block and the last model's head.

    Neighbours (and the head) are copied together, so that what they share stays shared.
    """
    blocks: list[nn.Module] = []
    head: nn.Module = nn.Identity()
    for number, run in enumerate(recipe.runs):
        graph = graph_of(zoo[run.model])
        last = number == len(recipe.runs) - 1 and recipe.head == "source"
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
    if num_classes is None and labels is None:
        raise UserError(
            f"The recipe {recipe} ends in a new head (head: target), but the number of classes is "
            "not known. Pass num_classes=… or labels=…, or take 'head: source'."
        )
    if num_classes is not None:
        return num_classes
    assert labels is not None
    return int(labels.max()) + 1


def _target_head(channels: int, classes: int, seed: int) -> nn.Linear:
    head = nn.Linear(channels, classes)
    with torch.no_grad():
        nn.init.normal_(head.weight, std=0.01, generator=seeded(seed, f"head {channels} {classes}"))
        nn.init.zeros_(head.bias)
    return head


def seeded(seed: int, text: str) -> torch.Generator:
    """Return a generator seeded by a seed and a text, the same in every process."""
    digest = hashlib.sha256(f"{seed} {text}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
