"""Linear estimators from the features themselves, without Gram matrices.

``⟨K, L⟩ = ‖XᵀY‖²`` (Kornblith et al. 2019, Eq. 2) holds for unbiased HSIC₁ too, with a correction
by the diagonals of the Gram matrices. A pair of cuts then costs ``n d d'`` in place of the ``n²/2``
of two Gram vectors, and no Gram matrix is made. That pays for few cuts of few channels on many
images (:func:`is_cheaper`): the 18 cuts of two ResNets on 10,000 images in one batch, as CKA was
published, take 11 s and 0.3 GB on one core this way, and 76 s and 4.1 GB by Gram vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo_search.similarities.estimators.kernels import centred, check_samples, largest

_STRIP = 256
"""Columns of the products ``XᵀY`` that are made at once, at least."""

_PASSES = 70
"""Multiply-adds in whose time one entry of a Gram matrix is centred, packed and scaled."""

_SQUARE = 20
"""Multiply-adds in whose time one entry of ``XᵀY`` is squared and summed."""


def is_cheaper(samples: int, widths: Sequence[int]) -> bool:
    """Say whether a batch of n samples and cuts of d features each costs less in feature space."""
    cuts, columns = len(widths), sum(widths)
    by_features = columns**2 * (samples / 2 + _SQUARE)
    by_grams = samples**2 * (0.75 * columns + 0.31 * cuts**2 + _PASSES * cuts / 2)
    return by_features < by_grams


def unbiased_products(features: Sequence[Tensor]) -> Tensor:
    """Return the unbiased HSIC₁ of every two of ``m`` feature matrices, ``[m, m]`` float64.

    With centred features, ``k`` and ``l`` the diagonals of ``K`` and ``L``, Eq. 5 of Song et al.
    2012 is ``(‖XᵀY‖² - n/(n-2) k·l + Σk Σl / ((n-1)(n-2))) / (n(n-3))``.

    The matrices ``[n, d_i]`` are those of the same images; fewer than 4 are a ValueError.
    """
    n = len(features[0])
    check_samples(n)
    squares, diagonals = _products(features)
    sums = diagonals.sum(dim=0)
    corrected = (
        squares
        - diagonals.T @ diagonals * (n / (n - 2))
        + sums[:, None] * sums[None, :] / ((n - 1) * (n - 2))
    )
    scales = torch.stack([largest(x).double() ** 2 for x in features])
    return corrected * scales[:, None] * scales[None, :] / (n * (n - 3))


def biased_products(features: Sequence[Tensor]) -> Tensor:
    """Return the biased linear CKA of every two of ``m`` feature matrices, ``[m, m]`` float64."""
    squares, _ = _products(features)
    scale = squares.diagonal().rsqrt()
    scale[torch.isinf(scale)] = 0
    return squares * scale[:, None] * scale[None, :]


def _products(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return ``‖XᵀY‖²`` of all pairs ``[m, m]`` and the Gram matrices' diagonals ``[n, m]``."""
    # XᵀY of all pairs of cuts are the blocks of one product [X Y …]ᵀ[X Y …]. It is made strip by
    # strip of its upper triangle, squared, and summed by blocks, so that it is never there whole.
    columns = [torch.cat([b.clone() for b in centred(x)], dim=1) for x in features]
    widths = [x.shape[1] for x in columns]
    together = torch.cat(columns, dim=1)
    del columns
    device = together.device
    owner = torch.repeat_interleave(torch.tensor(widths)).to(device)
    # Sums over the columns of a cut are products with a matrix of zeros and ones.
    member = torch.zeros(len(owner), len(widths), dtype=together.dtype, device=device)
    member[torch.arange(len(owner), device=device), owner] = 1
    out = torch.zeros(len(widths), len(widths), dtype=torch.float64, device=device)
    for first, last, start, stop in _strips(widths):
        products = (together[:, start:stop].T @ together[:, start:]).square_()
        sums = member[start:stop, first:last].T @ (products @ member[start:, first:])
        out[first:last, first:] = sums.double()
        out[first:, first:last] = sums.double().T
    return out, (together.square() @ member).double()


def _strips(widths: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Return first and last cut, first and last column of strips of whole cuts."""
    strips = []
    first = start = stop = 0
    for index, width in enumerate(widths, 1):
        stop += width
        if stop - start >= _STRIP or index == len(widths):
            strips.append((first, index, start, stop))
            first, start = index, stop
    return strips
