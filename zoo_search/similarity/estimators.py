"""Estimators of the similarity of two feature matrices, as inner products of vectors.

Every estimator here turns the features of one cut on one batch of images into one vector (two
for ``lr``) such that similarity is made of inner products of vectors. So all pairs of all cuts of
all models on a batch are one matrix product, and a model costs its own vectors only.

Sources:
    Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited": CKA, RBF CKA
    with a bandwidth from the median distance, and linear regression (section 3, table 1).
    Song et al. 2012, "Feature Selection via Dependence Maximization", Eq. 5: unbiased HSIC₁.
    Nguyen, Raghu and Kornblith 2021, "Do Wide and Deep Networks Learn the Same Things?", Eqs. 2-3:
    minibatch CKA. Székely and Rizzo 2014: HSIC₁ as inner product of U-centred matrices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoo_search.errors import UserError, nearest

__all__ = [
    "METRICS",
    "MIN_IMAGES",
    "Embedding",
    "Metric",
    "PairSums",
    "centre",
    "get_metric",
    "hsic1",
    "linear_gram",
    "pairwise",
    "rbf_gram",
    "u_centre",
]

MIN_IMAGES = 4
"""Images that a batch needs: HSIC₁ divides by ``n - 3``."""


@dataclass(frozen=True)
class Embedding:
    """The vectors of one cut on one batch.

    Attributes:
        rows: ``[parts, v]`` float32, each of unit length (or zero where a feature is constant).
            The first part stands for the cut as row of the table, the last one as column.
        norms: ``[parts]`` float64, the lengths that the vectors had.
    """

    rows: Tensor
    norms: Tensor


@dataclass(frozen=True)
class Metric:
    """An estimator of similarity.

    Attributes:
        name: Its name in the configuration.
        embed: Features ``[n, d]`` to the vectors of the batch.
        parts: Vectors a cut.
        summed: Sum numerators and denominators over batches and divide once; else the mean over
            batches of each batch's value.
        symmetric: Whether ``value(a, b)`` equals ``value(b, a)``.
    """

    name: str
    embed: Callable[[Tensor], Embedding]
    parts: int
    summed: bool
    symmetric: bool


def linear_gram(x: Tensor) -> Tensor:
    """Return the Gram matrix ``[n, n]`` of the linear kernel for features ``[n, d]``."""
    return x @ x.T


def rbf_gram(x: Tensor) -> Tensor:
    """Return the Gram matrix of the RBF kernel whose sigma is the batch's median distance.

    The median runs over all pairs of samples that differ; if none do, all entries are 1.
    """
    gram = x @ x.T
    squares = gram.diagonal()
    distances = (squares[:, None] + squares[None, :] - 2 * gram).clamp_(min=0)
    pairs = distances.flatten()[_upper_index(len(x), 1).to(x.device)]
    apart = pairs[pairs > 0]
    if not len(apart):
        return torch.ones_like(gram)
    return torch.exp(-distances / (2 * apart.median())).fill_diagonal_(1)


def centre(gram: Tensor) -> Tensor:
    """Return ``H K H``, the Gram matrix of centred features, for ``K`` of shape ``[n, n]``."""
    rows = gram.mean(dim=1, keepdim=True)
    return gram - rows - rows.T + gram.mean()


def u_centre(gram: Tensor) -> Tensor:
    """Return the U-centred matrix of a symmetric Gram matrix ``[n, n]``; its diagonal is 0.

    Székely and Rizzo 2014, definition 2. ``<Ũ(K), Ũ(L)> / (n (n - 3))`` is HSIC₁ of Song et al.

    Raises:
        ValueError: If there are fewer than 4 samples.
    """
    n = len(gram)
    if n < MIN_IMAGES:
        raise ValueError(f"U-centring needs at least {MIN_IMAGES} samples, not {n}.")
    bare = gram.clone().fill_diagonal_(0)
    rows = bare.sum(dim=1, keepdim=True)
    total = rows.sum() / ((n - 1) * (n - 2))
    return (bare - rows / (n - 2) - rows.T / (n - 2) + total).fill_diagonal_(0)


def hsic1(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741 (K and L are the field's names)
    """Return the unbiased HSIC₁ (Song et al. 2012, Eq. 5) of two Gram matrices ``[n, n]``."""
    n = len(k)
    return (u_centre(k) * u_centre(l)).sum() / (n * (n - 3))


def get_metric(name: str) -> Metric:
    """Return the estimator of that name.

    Raises:
        UserError: If there is none.
    """
    try:
        return METRICS[name]
    except KeyError:
        raise UserError(
            f"There is no similarity metric '{name}'.{nearest(name, METRICS)} "
            f"Allowed: {', '.join(METRICS)}."
        ) from None


class PairSums:
    """Sums over batches of the inner products of all pairs of ``n`` cuts."""

    def __init__(self, metric: Metric, n: int) -> None:
        self.metric = metric
        self._sums = torch.zeros(n, n, dtype=torch.float64)
        self._batches = 0

    def add(self, rows: Tensor, norms: Tensor) -> None:
        """Add one batch: ``rows`` ``[n, parts, v]``, ``norms`` ``[n, parts]``, as in Embedding."""
        products = (rows[:, 0] @ rows[:, -1].T).double().cpu()
        self._sums += products * norms[:, :1].cpu() * norms[:, -1:].T.cpu()
        self._batches += 1

    def values(self) -> npt.NDArray[np.float32]:
        """Return the similarities ``[n, n]``: as they come, not clipped; the diagonal is 1.

        A cut whose features do not vary over the images has similarity 0 with every other.
        """
        sums = self._sums
        if self.metric.symmetric:
            sums = (sums + sums.T) / 2
        if self.metric.summed:
            scale = sums.diagonal().clamp(min=0).rsqrt()
            scale[torch.isinf(scale)] = 0
            sums = sums * scale[:, None] * scale[None, :]
        else:
            sums = sums / max(self._batches, 1)
        out: npt.NDArray[np.float32] = sums.to(torch.float32).fill_diagonal_(1).numpy()
        return out


def pairwise(batches: Iterable[Sequence[Tensor]], metric: str = "cka") -> npt.NDArray[np.float32]:
    """Return the similarity of every two of the ``m`` feature sets, ``[m, m]``.

    Args:
        batches: For each batch of images, the ``m`` feature matrices ``[n, d_i]`` (more
            dimensions are flattened), in the same order in every batch.
        metric: Name of the estimator.

    Raises:
        UserError: If the metric is unknown or there is no batch.
        ValueError: If a batch has fewer than 4 images.
    """
    estimator = get_metric(metric)
    sums: PairSums | None = None
    for features in batches:
        embedded = [estimator.embed(x.flatten(1)) for x in features]
        sums = sums or PairSums(estimator, len(embedded))
        sums.add(torch.stack([e.rows for e in embedded]), torch.stack([e.norms for e in embedded]))
    if sums is None:
        raise UserError("There are no images to compare features on; give at least one batch.")
    return sums.values()


def _centred(x: Tensor) -> Tensor:
    """Return features with mean 0 and largest entry 1: same similarity, better rounding."""
    x = x.to(torch.float32) if x.dtype != torch.float64 else x
    mean = x.mean(dim=0, keepdim=True)
    noise = 8 * torch.finfo(x.dtype).eps * mean.abs()
    x = x - mean
    # What is below the rounding of the mean is no variation: a constant feature becomes 0.
    return torch.where(x.abs() <= noise, 0, x)


def _scaled(x: Tensor) -> tuple[Tensor, float]:
    """Return centred features over their largest entry, and that entry."""
    x = _centred(x)
    scale = float(x.abs().max()) if x.numel() else 0.0
    return (x / scale, scale) if scale > 0 else (x, 0.0)


@functools.lru_cache(maxsize=8)
def _upper_index(n: int, offset: int) -> Tensor:
    """Return the flat indices of the upper triangle of an ``[n, n]`` matrix, row by row."""
    row, column = torch.triu_indices(n, n, offset).unbind()
    return row * n + column


def _unit(matrices: Sequence[Tensor], factors: Sequence[float], diagonal: bool) -> Embedding:
    """Return symmetric matrices as unit vectors whose inner products are the matrices' own.

    Each vector is the upper triangle; off the diagonal every entry counts twice.
    """
    n = len(matrices[0])
    index = _upper_index(n, 0 if diagonal else 1).to(matrices[0].device)
    weight = torch.full((len(index),), 2.0**0.5, dtype=matrices[0].dtype, device=index.device)
    if diagonal:
        weight[index % (n + 1) == 0] = 1
    flat = torch.stack([matrix.flatten()[index] for matrix in matrices]) * weight
    lengths = torch.linalg.vector_norm(flat, dim=1, dtype=torch.float64)
    rows = flat / lengths.where(lengths > 0, 1.0)[:, None].to(flat.dtype)
    return Embedding(rows.to(torch.float32), lengths * lengths.new_tensor(factors))


def _embed_cka(x: Tensor) -> Embedding:
    x, scale = _scaled(x)
    n = len(x)
    factor = scale**2 / (max(n * (n - 3), 1)) ** 0.5
    return _unit([u_centre(linear_gram(x))], [factor], diagonal=False)


def _embed_rbf(x: Tensor) -> Embedding:
    x, scale = _scaled(x)
    n = len(x)
    gram = rbf_gram(x) if scale > 0 else torch.zeros(n, n, dtype=x.dtype, device=x.device)
    return _unit([u_centre(gram)], [1 / (max(n * (n - 3), 1)) ** 0.5], diagonal=False)


def _embed_biased(x: Tensor) -> Embedding:
    x, _ = _scaled(x)
    unit = _unit([linear_gram(x)], [1.0], diagonal=True)
    return Embedding(unit.rows, (unit.norms > 0).to(torch.float64))


def _embed_lr(x: Tensor) -> Embedding:
    """Embed so that the value is R² of the column's features regressed on the row's."""
    x, _ = _scaled(x.to(torch.float64))
    left, sizes, _ = torch.linalg.svd(x, full_matrices=False)
    floor = max(x.shape) * torch.finfo(torch.float32).eps * sizes.max()
    basis = left[:, sizes > floor]
    gram = linear_gram(x)
    trace = gram.trace()
    return _unit([basis @ basis.T, gram / trace.where(trace > 0, 1.0)], [1.0, 1.0], diagonal=True)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("cka", _embed_cka, parts=1, summed=True, symmetric=True),
        Metric("cka_biased", _embed_biased, parts=1, summed=False, symmetric=True),
        Metric("rbf_cka", _embed_rbf, parts=1, summed=True, symmetric=True),
        Metric("lr", _embed_lr, parts=2, summed=False, symmetric=False),
    )
}
"""Estimators by name.

``cka``: minibatch unbiased linear CKA. ``cka_biased``: mean over batches of the biased estimator.
``rbf_cka``: as ``cka`` with the RBF kernel. ``lr``: mean over batches of the share of variance of
the column's features that a linear map of the row's explains (1 wherever d >= n - 1); directions
of the row's features below the rounding of float32 are not counted.
"""
