"""Least squares as an init hook: stitches and head start from a fit to target images.

Source: docs/design.md, "Reassembly"; DeRy section 3.3 leaves the start of the stitches open.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zoo_search.core.errors import UserError
from zoo_search.hooks import Context, Filled, Fitter, hook_traits
from zoo_search.networks.groups import head_scales
from zoo_search.networks.network import ReassembledNet
from zoo_search.networks.recipe import BlockRef
from zoo_search.networks.ridge import fit_ridge, held_out, solve_ridge, split_moments
from zoo_search.networks.spread import POWER
from zoo_search.networks.stitch import Stitch

_SMOOTHING = 0.1


@hook_traits(roles=("candidate",), options=())
def least_squares(module: nn.Module, context: Context) -> Filled | None:
    """Fit the stitches of a reassembled network, and its new head where labels are known.

    Stitches come from ``context.fitter`` (:class:`~zoo_search.networks.fitter.StitchFitter`),
    the head from ridge regression of one-hot labels on the pooled features, of every block where it
    reads them (:mod:`~zoo_search.networks.groups` says how much each counts). Other modules than
    reassembled networks of pre-trained blocks are left alone.

    Before a head that stays what it was (``head: source``) stitches keep the spread that it is used
    to (:mod:`~zoo_search.networks.spread`); a new one suits itself to the nearest features.

    Raises:
        UserError: If there are stitches to fit and no images.
    """
    if not isinstance(module, ReassembledNet) or context.role != "candidate":
        return None
    recipe, fitter = module.recipe, context.fitter
    joints = [i for i, stitch in enumerate(module.stitches) if isinstance(stitch, Stitch)]
    if fitter is None:
        if joints:
            raise UserError(
                f"The recipe {recipe} has stitches to fit by least squares, but no images were "
                "given. Pass images=… (a few hundred, uint8 [N, 3, H, W]), or init='random'."
            )
        return None
    if recipe.head == "source":
        fitter = fitter.keeping(POWER)
    r2: list[float | None] = []
    for i in joints:
        prefix, after = recipe.blocks[: i + 1], recipe.blocks[i + 1]
        module.stitches[i].load_state_dict(fitter.stitch(prefix, after).state_dict())
        quality = fitter.quality(prefix, after)
        r2.append(round(quality, 6) if math.isfinite(quality) else None)
    labels = context.labels if recipe.head == "target" else None
    if labels is not None:
        _fit_head(module, fitter, labels, context.class_weights)
    words = ", ".join("unknown" if x is None else f"{x:.2f}" for x in r2)
    summary = f"R² of the stitches {words}" if r2 else ""
    headed = labels is not None
    return Filled({"r2": r2, "head": headed}, fitted=headed, summary=summary)


@torch.no_grad()
def _fit_head(
    net: ReassembledNet, fitter: Fitter[BlockRef], labels: Tensor, class_weights: Tensor | None
) -> None:
    """Set the target head to ridge regression of one-hot labels on pooled features, as logits.

    Ridge regression answers on the scale of its targets, 0 to 1, which as logits means "nearly
    sure of nothing": a training by cross-entropy would first of all blow the weights up, and lose
    the solution on the way. So weight and bias are scaled by the inverse temperature (Guo et al.,
    On Calibration of Modern Neural Networks, 2017) that suits the images held out of the fit.
    Images count by the weights of their classes, as in the training.
    """
    assert isinstance(net.head, nn.Linear)
    x = torch.cat(_read(net, fitter), dim=1).double()
    labels = labels[: len(x)].to(x.device)
    hot = nn.functional.one_hot(labels, net.head.out_features)
    scales = head_scales(x, hot, net.widths)
    x *= scales
    if class_weights is not None:
        class_weights = class_weights.to(x)
    train, held = split_moments(x, hot, None if class_weights is None else class_weights[labels])
    fit = fit_ridge(train, held)
    weight, bias = fit.weight, fit.bias
    if min(train.n, held.n) > 1:
        weight, bias = solve_ridge(train, fit.alpha)
        out = held_out(0, x)
        x, labels = x[out], labels[out]
    scale = _inverse_temperature(x @ weight.T + bias, labels, class_weights)
    net.head.weight.copy_(scale * fit.weight * scales)
    net.head.bias.copy_(scale * fit.bias)


def _read(net: ReassembledNet, fitter: Fitter[BlockRef]) -> list[Tensor]:
    """Return what the head reads of each block, pooled: ``[N, channels]``, in order."""
    blocks = net.recipe.blocks
    pools = {len(blocks): net.pool} | {n + 1: tap for n, tap in enumerate(net.taps)}
    return [
        torch.cat([pools[count](features) for features in fitter.prefix(blocks[:count])])
        for count in sorted(pools)
    ]


def _inverse_temperature(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None
) -> float:
    """Return the factor in [0.1, 100] that suits logits ``[N, classes]`` best, to 2 %.

    Smooth labels, as in training, keep it finite where the logits separate the classes.
    """
    scales = torch.logspace(-1, 2, 301, dtype=logits.dtype, device=logits.device)
    losses = [
        nn.functional.cross_entropy(
            scale * logits, labels, class_weights, label_smoothing=_SMOOTHING
        )
        for scale in scales
    ]
    return float(scales[torch.stack(losses).argmin()])
