"""Ridge regression from streamed moments: how a stitch or a head starts before any training.

A stitch is a linear map, so the map that brings one block's output closest to what the next
block is used to (in the least-squares sense, on the target's images) has a closed form. The
normal equations are summed in float64, batch by batch; the features themselves are not kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

ALPHAS = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
HELD_OUT = 0.25  # share of the images that chooses the penalty
_GOLDEN = 0.6180339887498949


class Moments:
    """Sums over samples of ``x``, ``y``, ``x xᵀ``, ``x yᵀ`` and ``y·y``, in float64."""

    _sums: ClassVar[tuple[str, ...]] = ("x", "y", "xx", "xy", "yy")

    def __init__(self, inputs: int, outputs: int, device: torch.device | None = None) -> None:
        double = torch.float64
        self.n: float = 0  # samples, by their weights
        self.x = torch.zeros(inputs, dtype=double, device=device)
        self.y = torch.zeros(outputs, dtype=double, device=device)
        self.xx = torch.zeros(inputs, inputs, dtype=double, device=device)
        self.xy = torch.zeros(inputs, outputs, dtype=double, device=device)
        self.yy = 0.0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add samples ``x`` ``[n, inputs]`` with targets ``y`` ``[n, outputs]``."""
        x, y = x.double(), y.double()
        self.n += x.shape[0]
        self.x += x.sum(0)
        self.y += y.sum(0)
        self.xx.addmm_(x.T, x)
        self.xy.addmm_(x.T, y)
        self.yy += float((y * y).sum())

    def add_weighted(self, x: Tensor, y: Tensor, weights: Tensor) -> None:
        """Add samples as :meth:`add`; one of the weight 2 (``weights`` ``[n]``) counts as two."""
        root = weights.double().sqrt()[:, None]
        x, y = x.double() * root, y.double() * root
        self.n += float(weights.sum())
        # Each product of two factors holds the weight; a sum over one of them lacks a root.
        self.x += (x * root).sum(0)
        self.y += (y * root).sum(0)
        self.xx.addmm_(x.T, x)
        self.xy.addmm_(x.T, y)
        self.yy += float((y * y).sum())

    def __add__(self, other: Self) -> Self:
        total = type(self)(self.x.numel(), self.y.numel(), self.x.device)
        total.n = self.n + other.n
        for name in self._sums:
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    # With the mean m = Σx / n, the centred sums need no second pass over the samples:
    # Σ (x - m)(x - m)ᵀ = Σ xxᵀ - n m mᵀ = Σ xxᵀ - m (Σx)ᵀ. What this cancels is a loss of digits
    # that float64 can afford, and float32 could not.
    def covariance(self) -> tuple[Tensor, Tensor, float]:
        """Return ``Sxx = Σ (x-x̄)(x-x̄)ᵀ``, ``Sxy = Σ (x-x̄)(y-ȳ)ᵀ`` and ``tr(Sxx) / inputs``."""
        mean = self.x / max(self.n, 1)
        sxx, sxy = self.xx - torch.outer(mean, self.x), self.xy - torch.outer(mean, self.y)
        return sxx, sxy, float(torch.trace(sxx)) / max(len(sxx), 1)

    def bias(self, weight: Tensor) -> Tensor:
        """Return the best bias for ``weight`` W: ``ȳ - W x̄``."""
        n = max(self.n, 1)
        return self.y / n - weight @ (self.x / n)

    def error(self, weight: Tensor, bias: Tensor) -> float:
        """Return ``Σ |y - Wx - b|²`` for ``weight`` W ``[outputs, inputs]``."""
        # |y - Wx - b|² = y·y + |Wx|² + |b|² + 2 b·Wx - 2 y·Wx - 2 y·b, summed term by term from the
        # moments; Σ |Wx|² is the trace of W (Σ xxᵀ) Wᵀ, taken entry by entry.
        w = weight.T
        quadratic = (w * (self.xx @ w)).sum() + self.n * (bias @ bias)
        cross = (w * self.xy).sum() + bias @ self.y - bias @ (w.T @ self.x)
        return max(float(self.yy + quadratic - 2 * cross), 0.0)


@dataclass(frozen=True)
class Ridge:
    """A fitted map ``y = W x + b``."""

    weight: Tensor  # ``[outputs, inputs]``, float64
    bias: Tensor  # ``[outputs]``, float64
    alpha: float  # the penalty over the mean variance of the inputs (summed over samples)
    r2: float  # share of the held-out targets' variance explained; NaN if nothing was held out
    error: float = math.inf  # sum of squares over the held-out targets

    def better_than(self, layer: nn.Conv2d | nn.Linear, test: Moments) -> bool:
        """Whether a layer is further from the held-out part, by a hundredth at least."""
        assert layer.bias is not None
        left = test.error(layer.weight.flatten(1).double(), layer.bias.double())
        return self.error < 0.99 * left and left > 1e-9 * test.yy

    def put_into(self, layer: nn.Conv2d | nn.Linear) -> None:
        """Give a layer this weight and bias."""
        assert layer.bias is not None
        layer.weight.copy_(self.weight.view_as(layer.weight))
        layer.bias.copy_(self.bias)


def solve_ridge(moments: Moments, alpha: float) -> tuple[Tensor, Tensor]:
    """Return weight and bias that minimise ``Σ |y - Wx - b|² + λ |W|²``; the bias is free.

    ``λ = alpha · tr(Sxx) / inputs`` with the centred ``Sxx``: the penalty has no unit.
    """
    sxx, sxy, scale = moments.covariance()
    weight = torch.zeros_like(sxy.T)
    if scale > 0:
        sxx.diagonal().add_(alpha * scale)
        weight = _solve(sxx, sxy)
    return weight, moments.bias(weight)


def fit_ridge(
    train: Moments, test: Moments | None = None, alphas: tuple[float, ...] = ALPHAS
) -> Ridge:
    """Choose the penalty on ``test``, then solve on both parts together.

    Without a held-out part of its own (fewer than two samples) the middle of ``alphas`` is taken.
    """
    if test is None or test.n < 2 or train.n < 2:
        total = train if test is None else train + test
        alpha = sorted(alphas)[len(alphas) // 2]
        return Ridge(*solve_ridge(total, alpha), alpha=alpha, r2=float("nan"))
    # The path is solved on the training part alone, so that the held-out part says the truth of it;
    # the penalty that it chooses then serves a fit to all samples.
    errors = [(test.error(w, b), a) for a, w, b in _path(train, alphas)]
    error, alpha = min(errors)
    spread = test.yy - float(test.y @ test.y) / test.n
    r2 = 1 - error / spread if spread > 0 else float("nan")
    return Ridge(*solve_ridge(train + test, alpha), alpha=alpha, r2=r2, error=error)


def held_out(first: int, batch: Tensor) -> Tensor:
    """Return which images of a batch, the first of them number ``first``, are held out.

    A quarter, spread by the golden ratio so that it follows no period of the images' order.
    """
    return numbers_held_out(torch.arange(first, first + len(batch), device=batch.device))


def numbers_held_out(numbers: Tensor) -> Tensor:
    """Return which images are held out, by their numbers ``[N]``."""
    return (numbers.double() * _GOLDEN) % 1 < HELD_OUT


def split_moments(x: Tensor, y: Tensor, weights: Tensor | None = None) -> tuple[Moments, Moments]:
    """Return the moments of one batch: of the images to fit, and of those :func:`held_out`.

    ``weights`` ``[n]`` are as of :meth:`Moments.add_weighted`; default: all count alike.
    """
    out = held_out(0, x)
    train, test = (Moments(x.shape[1], y.shape[1], x.device) for _ in range(2))
    for moments, part in ((train, ~out), (test, out)):
        if weights is None:
            moments.add(x[part], y[part])
        else:
            moments.add_weighted(x[part], y[part], weights[part])
    return train, test


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    # Without a penalty to speak of, the matrix may be singular: then the shortest solution.
    factor, info = torch.linalg.cholesky_ex(matrix)
    if int(info) == 0:
        weight: Tensor = torch.cholesky_solve(right, factor).T
    else:
        weight = torch.linalg.lstsq(matrix, right).solution.T
    return weight


def _path(moments: Moments, alphas: tuple[float, ...]) -> Iterable[tuple[float, Tensor, Tensor]]:
    """Yield (alpha, weight, bias) for every penalty from one eigendecomposition."""
    sxx, sxy, scale = moments.covariance()
    if scale <= 0:
        weight = torch.zeros_like(sxy.T)
        yield alphas[0], weight, moments.bias(weight)
        return
    # In the eigenbasis, Sxx + λI is diagonal for every λ: one decomposition, and each penalty costs
    # two products. Rounding may leave eigenvalues a little below 0, which none of Sxx has.
    values, vectors = torch.linalg.eigh(sxx)
    rotated = vectors.T @ sxy
    for alpha in alphas:
        weight = (vectors @ (rotated / (values.clamp_min(0) + alpha * scale)[:, None])).T
        yield alpha, weight, moments.bias(weight)
