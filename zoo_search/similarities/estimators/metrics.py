"""Estimators of the similarity of two feature matrices, as inner products of vectors.

``cka``: minibatch unbiased linear CKA. ``cka_biased``: mean over batches of the biased estimator.
``rbf_cka``: as ``cka`` with the RBF kernel. ``lr``: mean over batches of the share of variance of
the column's features that a linear map of the row's explains (1 wherever d >= n - 1); directions
of the row's features below the rounding of float32 are not counted.

Sources:
    Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited": CKA, RBF CKA
    with a bandwidth from the median distance, and linear regression (section 3, table 1).
    Song et al. 2012, "Feature Selection via Dependence Maximization", Eq. 5: unbiased HSIC₁.
    Nguyen, Raghu and Kornblith 2021, "Do Wide and Deep Networks Learn the Same Things?", Eqs. 2-3:
    minibatch CKA. Székely and Rizzo 2014: HSIC₁ as inner product of U-centred matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo_search.similarities.estimators.feature_space import biased_products, unbiased_products
from zoo_search.similarities.estimators.kernels import (
    Gram,
    centred,
    check_samples,
    fold,
    largest,
    linear_gram,
    rbf_gram,
    u_centre,
)
from zoo_search.similarities.estimators.registry import Embedding, metric_traits


def _unit(grams: Sequence[Gram], diagonal: bool) -> Embedding:
    """Return symmetric matrices as unit vectors; the lengths are those of the matrices."""
    flat = torch.stack([fold(gram, diagonal) for gram in grams])
    lengths = torch.linalg.vector_norm(flat, dim=1)
    flat /= lengths.where(lengths > 0, 1.0)[:, None]
    return Embedding(flat.to(torch.float32), lengths.double() * 2**0.5)


@metric_traits(diagonal=False, products=unbiased_products)
def cka(x: Tensor) -> Embedding:
    """Embed by the U-centred Gram matrix, whose products are the unbiased HSIC₁."""
    check_samples(len(x))
    gram = linear_gram(x)
    gram.u_centre()
    unit = _unit([gram], diagonal=False)
    return Embedding(unit.rows, unit.norms * largest(x).double() ** 2 / _hsic_scale(len(x)))


@metric_traits(diagonal=False)
def rbf_cka(x: Tensor) -> Embedding:
    """Embed by the U-centred Gram matrix of the RBF kernel."""
    check_samples(len(x))
    unit = _unit([Gram.of(u_centre(rbf_gram(x)))], diagonal=False)
    return Embedding(unit.rows, unit.norms / _hsic_scale(len(x)))


@metric_traits(summed=False, diagonal=True, products=biased_products)
def cka_biased(x: Tensor) -> Embedding:
    """Embed by the Gram matrix of centred features, at unit length: a product is a batch's CKA."""
    unit = _unit([linear_gram(x)], diagonal=True)
    return Embedding(unit.rows, (unit.norms > 0).to(torch.float64))


@metric_traits(vectors=2, summed=False, symmetric=False, diagonal=True)
def lr(x: Tensor) -> Embedding:
    """Embed so that the value is R² of the column's features regressed on the row's."""
    # R² = ‖Q Qᵀ Y‖² / ‖Y‖² with Q a basis of the span of X, which is ⟨Q Qᵀ, Y Yᵀ⟩ / tr(Y Yᵀ): as
    # row a cut is the projection, as column its Gram matrix over its trace.
    x = x.to(torch.float64)
    gram = linear_gram(x)
    trace = gram.diagonal().sum()
    share = Gram(*(block / trace.where(trace > 0, 1.0) for block in vars(gram).values()))
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
        squares, left = torch.linalg.eigh(gram.whole())
        sizes = squares.clamp(min=0).sqrt()
    floor = max(n, d) * torch.finfo(torch.float32).eps * sizes.max()
    basis: Tensor = left[:, sizes > floor]
    return basis


def _hsic_scale(n: int) -> float:
    return float((n * (n - 3)) ** 0.5)
