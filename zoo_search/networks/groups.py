"""Features of several blocks under one linear head: how much each block counts in ridge regression.

What blocks give differs in size by orders of magnitude, and one penalty for all weights then shuts
out whole blocks. So the features of a block are a group that is multiplied by a number of its own:
first to equal spread, then by how much the group helps. Evci et al. ("Head2Toe: Utilizing
Intermediate Representations for Better Transfer Learning", ICML 2022, section 3) select features of
all layers by group lasso, with a penalty that is found by cross-validation; ridge regression has a
closed form for every choice, and for what each image would be given without itself.

The numbers go into the weights of the head afterwards, which is one linear layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_FACTORS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
"""What the squared spread of a group may be multiplied by; at 0 it is left out."""
_PENALTIES = (1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Over the mean eigenvalue of the features' Gram matrix."""
_ROUNDS = 3
_GAIN = 1e-3
"""Share of the error by which another factor has to be better: what makes none stays as it is."""
_IMAGES = 512
"""Most images that choose: a choice costs some dozens of eigendecompositions of their number."""


def spread_scales(x: Tensor, groups: Sequence[int]) -> Tensor:
    """Return ``[F]`` numbers, float64, that bring groups of features to an equal sum of variances.

    Args:
        x: Features ``[N, F]``.
        groups: Sizes of the groups, in order; a single one is left as it is.
    """
    scales = torch.ones(x.shape[1], dtype=torch.float64, device=x.device)
    if len(groups) > 1:
        sizes = list(groups)
        for own, part in zip(
            torch.split(scales, sizes), torch.split(x.double(), sizes, dim=1), strict=True
        ):
            total = float(part.var(dim=0, correction=0).sum())
            own.fill_(1 / math.sqrt(total) if total > 0 else 1.0)
    return scales


def head_scales(x: Tensor, y: Tensor, groups: Sequence[int]) -> Tensor:
    """Return ``[F]`` numbers, float64, that suit ridge regression of ``y`` on all groups best.

    Of equal spread, groups are multiplied by factors that are chosen one after the other by the
    leave-one-out error at the best penalty. The last group alone is where the choice begins, if it
    is no worse than all of them alike: other groups come in only where they help.

    Args:
        x: Features ``[N, F]``.
        y: Targets ``[N, outputs]``.
        groups: Sizes of the groups, in order; a single one is left as it is.
    """
    scales = spread_scales(x, groups)
    if len(groups) == 1 or len(x) < 3:
        return scales
    z, y = (x[:_IMAGES].double() * scales), y[:_IMAGES].double()
    parts = torch.split(z - z.mean(dim=0), list(groups), dim=1)
    # The Gram matrix of scaled groups is the sum of theirs, each times its factor.
    grams = torch.stack([part @ part.T for part in parts])

    def error(factors: Sequence[float]) -> float:
        own = torch.tensor(factors, dtype=grams.dtype, device=grams.device)
        return left_out_error(torch.einsum("g,gij->ij", own, grams), y)

    last = [0.0] * (len(groups) - 1) + [1.0]
    least, factors = min((error(f), f) for f in (last, [1.0] * len(groups)))
    for _ in range(_ROUNDS):
        before = list(factors)
        for place in reversed(range(len(groups))):
            for factor in _FACTORS:
                tried = [*factors[:place], factor, *factors[place + 1 :]]
                if any(tried) and tried != factors and (own := error(tried)) < least * (1 - _GAIN):
                    least, factors = own, tried
        if factors == before:
            break
    for part, factor in zip(torch.split(scales, list(groups)), factors, strict=True):
        part.mul_(math.sqrt(factor))
    return scales


def left_out_error(gram: Tensor, y: Tensor) -> float:
    """Return the squared error of ridge regression on each sample left out, at the best penalty.

    With the hat matrix ``H`` of a fit with a free bias, the prediction for a sample that is left
    out is off by ``(y - Hy)_i / (1 - H_ii)`` (PRESS: Allen, "The Relationship between Variable
    Selection and Data Augmentation and a Method for Prediction", 1974).

    Args:
        gram: Inner products ``[N, N]`` of centred features, float64.
        y: Targets ``[N, outputs]``, float64.
    """
    count = len(gram)
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp_min(0)
    y = y - y.mean(dim=0)
    rotated = vectors.T @ y
    errors = []
    for penalty in _PENALTIES:
        shrunk = values / (values + penalty * values.mean()).clamp_min(torch.finfo(y.dtype).tiny)
        # H = 11ᵀ/N, which is the bias, and U diag(shrunk) Uᵀ of what is centred.
        own = 1 / count + vectors.square() @ shrunk
        left = y - vectors @ (shrunk[:, None] * rotated)
        errors.append((left / (1 - own).clamp_min(1e-9)[:, None]).square().sum())
    return float(torch.stack(errors).min())
