"""How a stitch is fitted to what comes before it and what is expected after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from zoo_search.linegraph.layout import to_nchw
from zoo_search.networks.ridge import Moments, fit_ridge, held_out
from zoo_search.networks.spread import PairedMoments, keep_spread
from zoo_search.networks.stitch import Stitch, prefix_sources, resize


@torch.no_grad()
def fit_stitch(
    stitch: Stitch,
    batches: Iterable[tuple[Tensor, Tensor]],
    held: Sequence[Tensor] | None = None,
    *,
    keep: bool = False,
    power: float = 1.0,
) -> float:
    """Fit a stitch in place; return the held-out R² of the least-squares map.

    Inputs of the regression are the features of the block before, on the grid of the block after,
    one sample a position; each prefix token has a regression of its own, one sample an image.
    A quarter of the images is held out to choose the penalty; a large one leaves hardly more than
    the mean. ``batches`` are what the block before gives ``[B, *before.shape]`` and what the block
    after is used to ``[B, *after.shape]``, for the same images. ``held`` says of each batch which
    of its images are held out, ``[B]`` of bool; default: :func:`held_out`. With ``keep`` a map of
    the stitch stays where the fit comes no nearer to the images held out. ``power`` says how much
    of its targets' spread a map keeps: 1 is least squares, the nearest map
    (:func:`~zoo_search.networks.spread.keep_spread`).
    """
    before, after = stitch.before, stitch.after
    count = after.prefix_tokens
    kind = Moments if power == 1 else PairedMoments
    parts: list[tuple[Moments, Moments]] = []
    seen = 0
    for number, (given, wanted) in enumerate(batches):
        if not parts:
            sizes = (before.channels, after.channels, given.device)
            parts = [(kind(*sizes), kind(*sizes)) for _ in range(1 + count)]
        out = held_out(seen, given) if held is None else held[number]
        seen += len(given)
        grid, tokens = to_nchw(given, before)
        target, target_tokens = to_nchw(wanted, after)
        pairs = [(resize(grid, after.grid), target)]
        if target_tokens is not None:
            sources = prefix_sources(grid, tokens, count)
            pairs += [(source, target_tokens[:, p]) for p, source in enumerate(sources)]
        for (train, test), (x, y) in zip(parts, pairs, strict=True):
            train.add(_samples(x[~out]), _samples(y[~out]))
            test.add(_samples(x[out]), _samples(y[out]))
    fits = [fit_ridge(train, test) for train, test in parts]
    layers = (stitch.map, *stitch.prefix)
    for layer, fit, (train, test) in zip(layers, fits, parts, strict=True):
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        if keep and not fit.better_than(layer, test):
            continue
        if isinstance(train, PairedMoments) and isinstance(test, PairedMoments):
            weight, bias = keep_spread(train + test, fit.alpha, power)
            fit = replace(fit, weight=weight, bias=bias)
        fit.put_into(layer)
    return fits[0].r2


def _samples(x: Tensor) -> Tensor:
    """``[B, C, H, W]`` to ``[B·H·W, C]``; ``[B, C]`` stays."""
    return x if x.ndim == 2 else x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
