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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoo_search.errors import UserError, nearest
from zoo_search.similarity.feature_space import biased_products, is_cheaper, unbiased_products
from zoo_search.similarity.kernels import (
    MIN_IMAGES,
    Gram,
    centred,
    check_samples,
    fold,
    largest,
    linear_gram,
    rbf_gram,
    u_centre,
    whole,
)
from zoo_search.similarity.products import PairSums

__all__ = [
    "METRICS",
    "MIN_IMAGES",
    "Embedding",
    "Metric",
    "PairSums",
    "add_features",
    "get_metric",
    "pairwise",
    "stack",
    "vector_length",
]


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
        diagonal: Whether the vectors hold the diagonals of the matrices that they stand for.
        products: Feature matrices ``[n, d_i]`` of a batch to the products ``[m, m]`` of all pairs,
            without vectors; none where an estimator has no such form.
    """

    name: str
    embed: Callable[[Tensor], Embedding]
    parts: int
    summed: bool
    symmetric: bool
    diagonal: bool
    products: Callable[[Sequence[Tensor]], Tensor] | None = None

    def shortcut(
        self, samples: int, widths: Sequence[int]
    ) -> Callable[[Sequence[Tensor]], Tensor] | None:
        """Return ``products`` where a batch of cuts of so many features is cheaper that way."""
        return self.products if self.products and is_cheaper(samples, widths) else None


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
    for batch in batches:
        features = [x.flatten(1) for x in batch]
        sums = sums or PairSums(estimator, len(features))
        add_features(sums, estimator, features)
    if sums is None:
        raise UserError("There are no images to compare features on; give at least one batch.")
    return sums.values()


def add_features(sums: PairSums, metric: Metric, features: Sequence[Tensor]) -> None:
    """Add one batch of feature matrices ``[n, d_i]``, in the space that costs less."""
    products = metric.shortcut(len(features[0]), [x.shape[1] for x in features])
    if products is not None:
        sums.add_products(products(features))
    else:
        sums.add(*stack((metric.embed(x) for x in features), len(features)))


def stack(embedded: Iterable[Embedding], count: int) -> tuple[Tensor, Tensor]:
    """Return the rows ``[count, parts, v]`` and norms ``[count, parts]`` of the cuts of a batch.

    Each embedding is let go of before the next one is asked for.
    """
    rows = norms = torch.empty(0)
    for index, one in enumerate(embedded):
        if index == 0:
            rows = one.rows.new_empty(count, *one.rows.shape)
            norms = one.norms.new_empty(count, *one.norms.shape)
        rows[index], norms[index] = one.rows, one.norms
    return rows, norms


def vector_length(metric: str, samples: int) -> int:
    """Return the length of the vectors of a batch of so many images.

    Raises:
        UserError: If there is no such metric.
    """
    return samples * (samples + (1 if get_metric(metric).diagonal else -1)) // 2


def _unit(grams: Sequence[Gram], diagonal: bool) -> Embedding:
    """Return symmetric matrices as unit vectors; the lengths are those of the matrices."""
    flat = torch.stack([fold(gram, diagonal) for gram in grams])
    lengths = torch.linalg.vector_norm(flat, dim=1)
    flat /= lengths.where(lengths > 0, 1.0)[:, None]
    return Embedding(flat.to(torch.float32), lengths.double() * 2**0.5)


def _embed_cka(x: Tensor) -> Embedding:
    check_samples(len(x))
    gram = linear_gram(x)
    gram.u_centre()
    unit = _unit([gram], diagonal=False)
    return Embedding(unit.rows, unit.norms * largest(x).double() ** 2 / _hsic_scale(len(x)))


def _embed_rbf(x: Tensor) -> Embedding:
    check_samples(len(x))
    unit = _unit([Gram.of(u_centre(rbf_gram(x)))], diagonal=False)
    return Embedding(unit.rows, unit.norms / _hsic_scale(len(x)))


def _embed_biased(x: Tensor) -> Embedding:
    unit = _unit([linear_gram(x)], diagonal=True)
    return Embedding(unit.rows, (unit.norms > 0).to(torch.float64))


def _embed_lr(x: Tensor) -> Embedding:
    """Embed so that the value is R² of the column's features regressed on the row's."""
    x = x.to(torch.float64)
    gram = linear_gram(x)
    trace = gram.diagonal().sum()
    share = Gram(*(block / trace.where(trace > 0, 1.0) for block in gram.blocks()))
    basis = _basis(x, gram)
    return _unit([Gram.of(basis @ basis.T), share], diagonal=True)


def _basis(x: Tensor, gram: Gram) -> Tensor:
    """Return an orthonormal basis ``[n, rank]`` of the span of centred features ``[n, d]``.

    In feature space where ``d <= n``, else from the Gram matrix, whose eigenvectors are the same.
    """
    n, d = x.shape
    if d <= n:
        features = torch.cat([block.clone() for block in centred(x)], dim=1)
        left, sizes, _ = torch.linalg.svd(features, full_matrices=False)
    else:
        squares, left = torch.linalg.eigh(whole(gram))
        sizes = squares.clamp(min=0).sqrt()
    floor = max(n, d) * torch.finfo(torch.float32).eps * sizes.max()
    basis: Tensor = left[:, sizes > floor]
    return basis


def _hsic_scale(n: int) -> float:
    return float((n * (n - 3)) ** 0.5)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "cka",
            _embed_cka,
            parts=1,
            summed=True,
            symmetric=True,
            diagonal=False,
            products=unbiased_products,
        ),
        Metric(
            "cka_biased",
            _embed_biased,
            parts=1,
            summed=False,
            symmetric=True,
            diagonal=True,
            products=biased_products,
        ),
        Metric("rbf_cka", _embed_rbf, parts=1, summed=True, symmetric=True, diagonal=False),
        Metric("lr", _embed_lr, parts=2, summed=False, symmetric=False, diagonal=True),
    )
}
"""Estimators by name.

``cka``: minibatch unbiased linear CKA. ``cka_biased``: mean over batches of the biased estimator.
``rbf_cka``: as ``cka`` with the RBF kernel. ``lr``: mean over batches of the share of variance of
the column's features that a linear map of the row's explains (1 wherever d >= n - 1); directions
of the row's features below the rounding of float32 are not counted.
"""
