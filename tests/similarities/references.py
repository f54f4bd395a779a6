"""Every metric of ours from its formula, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["REFERENCES", "song_hsic1"]

Array = np.ndarray
Batches = Sequence[Array]
FLOAT32_EPS = float(np.finfo(np.float32).eps)


def song_hsic1(k: Array, m: Array) -> float:
    """Song et al. 2012, Eq. 5, as printed, on Gram matrices in float64."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    cross = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + cross - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3))


def reference_unbiased(
    gram: Callable[[Array], Array],
) -> Callable[[Batches, Batches], float]:
    def value(xs: Batches, ys: Batches) -> float:
        def total(a: Batches, b: Batches) -> float:
            return sum(song_hsic1(gram(x), gram(y)) for x, y in zip(a, b, strict=True))

        return total(xs, ys) / np.sqrt(total(xs, xs) * total(ys, ys))

    return value


def reference_biased(xs: Batches, ys: Batches) -> float:
    """Kornblith et al. 2019 in feature space: ||X'Y||² / (||X'X|| ||Y'Y||), mean over batches."""
    values = []
    for x, y in zip(xs, ys, strict=True):
        x, y = x - x.mean(0), y - y.mean(0)
        norm = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
        values.append(np.linalg.norm(x.T @ y) ** 2 / norm)
    return float(np.mean(values))


def reference_lr(xs: Batches, ys: Batches) -> float:
    """R² of y regressed on x by least squares, mean over batches.

    Directions of x below the rounding of float32 are not counted, as in our own.
    """
    values = []
    for x, y in zip(xs, ys, strict=True):
        x, y = x - x.mean(0), y - y.mean(0)
        residual = y - x @ np.linalg.lstsq(x, y, rcond=max(x.shape) * FLOAT32_EPS)[0]
        values.append(1 - (residual**2).sum() / (y**2).sum())
    return float(np.mean(values))


def rbf(x: Array) -> Array:
    distances = np.linalg.norm(x[:, None] - x[None, :], axis=2)
    pairs = np.sort(distances[np.triu_indices(len(x), 1)])
    return np.exp(-(distances**2) / (2 * pairs[(len(pairs) - 1) // 2] ** 2))


REFERENCES = {
    "cka": reference_unbiased(lambda x: x @ x.T),
    "cka_biased": reference_biased,
    "rbf_cka": reference_unbiased(rbf),
    "lr": reference_lr,
}
