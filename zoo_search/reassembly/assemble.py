"""From a recipe to a network."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo_search.errors import UserError, nearest
from zoo_search.linegraph.graph import LineGraph
from zoo_search.reassembly.features import Images, StitchFitter, device_of
from zoo_search.reassembly.fit import Moments, fit_ridge, held_out, solve_ridge
from zoo_search.reassembly.inherit import inherit
from zoo_search.reassembly.network import ReassembledNet
from zoo_search.reassembly.recipe import BlockRef, HasGraph, Recipe, graph_of
from zoo_search.reassembly.stitch import Stitch

__all__ = ["INITS", "Init", "assemble"]

Init = Literal["least_squares", "random", "dpiat"]
INITS = ("least_squares", "random", "dpiat")
_SMOOTHING = 0.1


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
    last bit. The network comes in eval mode.

    Args:
        recipe: A recipe, its mapping, or the path of its YAML file.
        zoo: Models (or line graphs) by name.
        init: How stitches start: ``"least_squares"`` (:func:`zoo_search.reassembly.fit.fit_stitch`,
            needs ``images``), ``"random"`` (Kaiming, seeded by ``seed`` and the pair of cuts) or
            ``"dpiat"`` (random, then :func:`zoo_search.reassembly.inherit.inherit`).
        images: ``[N, C, H, W]``, a few hundred. uint8 images are raw and are normalised for each
            model by its own transform; float images are taken as normalised for the first block's
            model and are given to the other models as they are. A mapping gives each model the
            same images in its own size.
        labels: ``[N]`` class indices of ``images``; with ``"least_squares"`` the target head then
            starts from ridge regression on one-hot labels, scaled to logits, else from small random
            weights.
        num_classes: Classes of the target head; default: ``labels.max() + 1``.
        seed: Seed of everything random.
        fitter: Fits and caches stitches across recipes; made from ``images`` by default, and then
            chained, which fits this one recipe best.
        copy_blocks: False takes the zoo's own modules, for networks that are only looked at.

    Raises:
        UserError: If the recipe does not fit the zoo, ``init`` is unknown, or ``images`` or
            ``num_classes`` are missing.
    """
    recipe = Recipe.from_any(recipe)
    recipe.check(zoo)
    if init not in INITS:
        raise UserError(
            f"Unknown way to start stitches: {init!r}.{nearest(str(init), INITS)} "
            f"Allowed: {', '.join(INITS)}."
        )
    if fitter is None and images is not None and init == "least_squares":
        fitter = StitchFitter(zoo, images, chained=True)
    if init == "least_squares" and fitter is None and len(recipe.runs) > 1:
        raise UserError(
            f"The recipe {recipe} has stitches to fit by least squares, but no images were given. "
            "Pass images=… (a few hundred, uint8 [N, 3, H, W]), or init='random'."
        )
    fit = fitter if init == "least_squares" else None
    stitches = [
        _stitch(zoo, recipe.blocks[: i + 1], block, init, fit, seed)
        for i, block in enumerate(recipe.blocks[1:])
    ]
    blocks, source_head = _blocks(recipe, zoo, copy_blocks)
    last, first = recipe.blocks[-1], zoo[recipe.blocks[0].model]
    cut = graph_of(zoo[last.model]).cuts[last.stop]
    head = source_head
    if recipe.head == "target":
        head = _target_head(cut.channels, _classes(recipe, labels, num_classes), seed)
        head.to(device_of(graph_of(zoo[last.model])))
    net = ReassembledNet(
        recipe,
        blocks,
        stitches,
        head,
        cut,
        graph_of(first).input_size,
        getattr(first, "transform", None),
    ).eval()
    if recipe.head == "target" and init == "least_squares" and labels is not None and fitter:
        _fit_head(net, fitter, labels)
    return net


def _stitch(
    zoo: Mapping[str, LineGraph | HasGraph],
    prefix: tuple[BlockRef, ...],
    after: BlockRef,
    init: Init,
    fitter: StitchFitter | None,
    seed: int,
) -> nn.Module:
    before = prefix[-1]
    if before.precedes(after):
        return nn.Identity()
    if fitter is not None:
        return copy.deepcopy(fitter.stitch(prefix, after))
    source, target = graph_of(zoo[before.model]), graph_of(zoo[after.model])
    generator = seeded(seed, f"{before.model}/{before.stop} {after.model}/{after.start}")
    stitch = Stitch(source.cuts[before.stop], target.cuts[after.start]).reset(generator)
    if init == "dpiat":
        inherit(stitch, target, after.start)
    return stitch.to(device_of(target))


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


@torch.no_grad()
def _fit_head(net: ReassembledNet, fitter: StitchFitter, labels: Tensor) -> None:
    """Set the target head to ridge regression of one-hot labels on pooled features, as logits.

    Ridge regression answers on the scale of its targets, 0 to 1, which as logits means "nearly
    sure of nothing": a training by cross-entropy would first of all blow the weights up, and lose
    the solution on the way. So weight and bias are scaled by the inverse temperature (Guo et al.,
    On Calibration of Modern Neural Networks, 2017) that suits the images held out of the fit.
    """
    assert isinstance(net.head, nn.Linear)
    classes, channels = net.head.weight.shape
    x = torch.cat([net.pool(features) for features in fitter.prefix(net.recipe.blocks)]).double()
    labels = labels[: len(x)].to(x.device)
    y = nn.functional.one_hot(labels, classes).to(torch.float64)
    out = held_out(0, x)
    train, held = Moments(channels, classes, x.device), Moments(channels, classes, x.device)
    train.add(x[~out], y[~out])
    held.add(x[out], y[out])
    fit = fit_ridge(train, held)
    weight, bias = fit.weight, fit.bias
    if min(train.n, held.n) > 1:
        weight, bias = solve_ridge(train, fit.alpha)
        x, labels = x[out], labels[out]
    scale = _inverse_temperature(x @ weight.T + bias, labels)
    net.head.weight.copy_(scale * fit.weight)
    net.head.bias.copy_(scale * fit.bias)


def _inverse_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the factor in [0.1, 100] that suits logits ``[N, classes]`` best, to 2 %.

    Smooth labels, as in training, keep it finite where the logits separate the classes.
    """
    scales = torch.logspace(-1, 2, 301, dtype=logits.dtype, device=logits.device)
    losses = [
        nn.functional.cross_entropy(scale * logits, labels, label_smoothing=_SMOOTHING)
        for scale in scales
    ]
    return float(scales[torch.stack(losses).argmin()])


def seeded(seed: int, text: str) -> torch.Generator:
    """Return a generator seeded by a seed and a text, the same in every process."""
    digest = hashlib.sha256(f"{seed} {text}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
