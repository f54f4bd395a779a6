"""A linear map that keeps the spread of its targets, where least squares lets it shrink.

The least-squares map gives the mean of what may be wanted, so what it cannot tell shrinks towards
the mean of all: where half of the variance is explained, half of it is there. The next block was
trained on features of full spread, and what comes out of it then says little (Jordan et al.,
"REPAIR", 2022, found such a collapse of the variance in merged networks). A map whose error is a
little larger and whose spread is nearly right serves it better (``benchmarks/stitch_spread.py``).

Seen in canonical coordinates (Hotelling, "Relations Between Two Sets of Variates", 1936; as the map
of a regression: Breiman and Friedman, "Predicting Multivariate Responses in Multiple Linear
Regression", 1997): with ``Sxx + λI = A Aᵀ`` and ``Syy = B Bᵀ``,

    ``B⁻¹ Syx A⁻ᵀ = U D Vᵀ``,  and  ``W = B U Dᵖ Vᵀ A⁻¹``  is for p = 1 the ridge map.

``D`` holds the canonical correlations, between 0 and 1: by so much the ridge map shrinks what it
knows of each direction of the targets. For p = 0 nothing shrinks, and the outputs have the targets'
covariance: right in spread, but what is hardly known comes as strongly as what is sure. In between,
each gain is the ``Dᵖ`` between them. Directions that are known for certain (D = 1) are the
same for every p, so that a perfect map stays what it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo_search.networks.ridge import Moments, solve_ridge

POWER = 0.4
"""Of the canonical correlations: what held best on held-out images, early joints and late."""

_FLOOR = 1e-8
"""Added to the variances of the targets, over their mean: channels may be constant."""
_LEAST = 1e-12
"""Squares of correlations below it are rounding."""


class PairedMoments(Moments):
    """Moments with the sum of ``y yᵀ``."""

    _sums = (*Moments._sums, "outer")

    def __init__(self, inputs: int, outputs: int, device: torch.device | None = None) -> None:
        super().__init__(inputs, outputs, device)
        self.outer = torch.zeros(outputs, outputs, dtype=torch.float64, device=device)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add samples ``x`` ``[n, inputs]`` with targets ``y`` ``[n, outputs]``."""
        super().add(x, y)
        y = y.double()
        self.outer.addmm_(y.T, y)

    def target_covariance(self) -> Tensor:
        """Return ``Syy = Σ (y-ȳ)(y-ȳ)ᵀ``."""
        return self.outer - torch.outer(self.y / max(self.n, 1), self.y)


def keep_spread(
    moments: PairedMoments, alpha: float, power: float = POWER
) -> tuple[Tensor, Tensor]:
    """Return weight and bias whose gains are the canonical correlations to a power.

    Args:
        moments: Of inputs and targets.
        alpha: The penalty, as in :func:`~zoo_search.networks.ridge.solve_ridge`.
        power: 1 gives that ridge map, 0 the full spread of the targets in all directions; above 1
            what is hardly known shrinks still more.
    """
    sxx, sxy, scale = moments.covariance()
    syy = moments.target_covariance()
    spread = float(torch.trace(syy)) / max(len(syy), 1)
    weight = torch.zeros_like(sxy.T)
    if scale > 0 and spread > 0:
        sxx.diagonal().add_(max(alpha, _FLOOR) * scale)
        syy.diagonal().add_(_FLOOR * spread)
        (a, bad), (b, worse) = torch.linalg.cholesky_ex(sxx), torch.linalg.cholesky_ex(syy)
        if int(bad) or int(worse):  # by rounding: values whose mean is far larger than their spread
            return solve_ridge(moments, alpha)
        # K = B⁻¹ Syx A⁻ᵀ, then A⁻ᵀ of the right side once more: W = B f(K) A⁻¹.
        k = torch.linalg.solve_triangular(a, sxy, upper=False).T
        k = torch.linalg.solve_triangular(b, k, upper=False)
        right = torch.linalg.solve_triangular(a.T, _to_power(k, power).T, upper=True)
        weight = b @ right.T
    return weight, moments.bias(weight)


def _to_power(matrix: Tensor, power: float) -> Tensor:
    """Return ``U Dᵖ Vᵀ`` of a matrix ``U D Vᵀ``, from the smaller of its two Gram matrices.

    ``U Dᵖ Vᵀ = (K Kᵀ)^((p-1)/2) K = K (Kᵀ K)^((p-1)/2)``: an eigendecomposition is several times
    faster than the singular values of the whole.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return _to_power(matrix.T, power).T
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    powers = values.clamp_min(_LEAST).pow((power - 1) / 2)
    result: Tensor = (vectors * powers) @ (vectors.T @ matrix)
    return result
