"""Gram matrices of features, their centring, and symmetric matrices as vectors.

Features are centred and scaled block of columns by block of columns, so that the work on a full
feature map stays in the processor's cache and no second copy of the map is made.

Sources:
    Székely and Rizzo 2014, "Partial Distance Correlation with Methods for Dissimilarities":
    U-centring (definition 2). Song et al. 2012, "Feature Selection via Dependence Maximization",
    Eq. 5: unbiased HSIC₁, which is an inner product of U-centred Gram matrices.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

MIN_IMAGES = 4
"""Images that a batch needs: HSIC₁ divides by ``n - 3``."""

_BLOCK = 1 << 19
"""Entries of a block of columns: 2 MiB in float32."""


@dataclass(frozen=True, eq=False)
class Gram:
    """A symmetric matrix ``[n, n]`` as the blocks that its upper half is made of.

    Attributes:
        first: ``[h, h]`` with ``h = n // 2``.
        cross: ``[h, n - h]``, above the diagonal.
        last: ``[n - h, n - h]``.
    """

    first: Tensor
    cross: Tensor
    last: Tensor

    @classmethod
    def of(cls, matrix: Tensor) -> Gram:
        """Return the blocks of a whole matrix (views)."""
        h = len(matrix) // 2
        return cls(matrix[:h, :h], matrix[:h, h:], matrix[h:, h:])

    def whole(self) -> Tensor:
        """Return the matrix ``[n, n]`` (a copy)."""
        top = torch.cat([self.first, self.cross], dim=1)
        return torch.cat([top, torch.cat([self.cross.T, self.last], dim=1)])

    def diagonal(self) -> Tensor:
        """Return the diagonal ``[n]``."""
        return torch.cat([self.first.diagonal(), self.last.diagonal()])

    def add(self, left: Tensor, right: Tensor) -> None:
        """Add the symmetric product ``left rightᵀ`` of ``[n, d]`` matrices, in place."""
        h = len(self.first)
        self.first.addmm_(left[:h], right[:h].T)
        self.cross.addmm_(left[:h], right[h:].T)
        self.last.addmm_(left[h:], right[h:].T)

    def u_centre(self) -> None:
        """U-centre the Gram matrix of centred features, in place; its diagonal loses its meaning.

        The rows of such a matrix sum to 0, so its rows without the diagonal sum to minus the
        diagonal, and U-centring is the sum with a matrix of rank 2.
        """
        # Ũ[i, j] = K[i, j] - r_i / (n-2) - r_j / (n-2) + Σr / ((n-1)(n-2)) with r the sums of rows
        # without the diagonal, which here are r_i = -K[i, i]. The last term is halved between i
        # and j, so that what is added is o_i + o_j: the matrix o 1ᵀ + 1 oᵀ of rank 2.
        diagonal = self.diagonal()
        n = len(diagonal)
        offset = diagonal / (n - 2) - diagonal.sum() / (2 * (n - 1) * (n - 2))
        one = torch.ones_like(offset)
        self.add(torch.stack([offset, one], dim=1), torch.stack([one, offset], dim=1))


def centred(x: Tensor) -> Iterator[Tensor]:
    """Yield blocks of columns of features ``[n, d]``, centred, over the features' largest entry.

    Float32, or float64 if ``x`` is. A column that varies by no more than the rounding of its mean
    is constant, and becomes 0. A block is overwritten by the next one.
    """
    x = x if x.dtype == torch.float64 else x.to(torch.float32)
    if not x.numel():
        return
    scale = largest(x)
    scale = scale.where(scale > 0, 1.0)
    step = min(max(_BLOCK // len(x), 1), x.shape[1])
    # Two buffers for all blocks: fresh memory for each would cost more than the arithmetic.
    room, spare = x.new_empty(2, len(x), step)
    for block in torch.split(x, step, dim=1):
        mean = block.mean(dim=0)
        width = len(mean)
        out = torch.sub(block, mean, out=room[:, :width]).div_(scale)
        # What is left of a constant column after its mean is taken off is the mean's rounding.
        noise = 8 * torch.finfo(x.dtype).eps * mean.abs() / scale
        yield out.mul_(torch.abs(out, out=spare[:, :width]).amax(dim=0) > noise)


def largest(x: Tensor) -> Tensor:
    """Return the largest absolute entry, by which :func:`centred` divides."""
    low, high = x.aminmax()
    return torch.maximum(high, -low)


def linear_gram(x: Tensor) -> Gram:
    """Return the Gram matrix of the linear kernel for features ``[n, d]``, centred and scaled."""
    h, m = len(x) // 2, len(x) - len(x) // 2
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    gram = Gram(*(x.new_zeros(shape, dtype=dtype) for shape in ((h, h), (h, m), (m, m))))
    for block in centred(x):
        gram.add(block, block)
    return gram


def rbf_gram(x: Tensor) -> Tensor:
    """Return the Gram matrix ``[n, n]`` of the RBF kernel for features ``[n, d]``.

    Sigma is the batch's median distance (Kornblith et al. 2019, section 3, with factor 1); the
    median runs over all pairs of samples that differ, and if none do, all entries are 1.
    """
    # ‖x - y‖² = ‖x‖² + ‖y‖² - 2⟨x, y⟩, the same for centred features; a common scale cancels below.
    gram = linear_gram(x).whole()
    squares = gram.diagonal()
    distances = (squares[:, None] + squares[None, :] - 2 * gram).clamp_(min=0)
    pairs = fold(Gram.of(distances), diagonal=False)
    apart = pairs[pairs > 0]
    if not len(apart):
        return torch.ones_like(gram)
    return torch.exp(distances / (-2 * apart.median())).fill_diagonal_(1)


def u_centre(gram: Tensor) -> Tensor:
    """Return the U-centred matrix of a symmetric Gram matrix ``[n, n]``; its diagonal is 0.

    ``<Ũ(K), Ũ(L)> / (n (n - 3))`` is HSIC₁ of Song et al. :meth:`Gram.u_centre` does the same to a
    Gram matrix that is known to be one of centred features, at less cost.
    """
    n = len(gram)
    check_samples(n)
    bare = gram.clone().fill_diagonal_(0)
    rows = bare.sum(dim=1, keepdim=True)
    total = rows.sum() / ((n - 1) * (n - 2))
    return (bare - rows / (n - 2) - rows.T / (n - 2) + total).fill_diagonal_(0)


def check_samples(n: int) -> None:
    """Raise a ValueError if a batch is too small to be U-centred."""
    if n < MIN_IMAGES:
        raise ValueError(f"U-centring needs at least {MIN_IMAGES} samples, not {n}.")


def fold(gram: Gram, diagonal: bool) -> Tensor:
    """Return the entries of a symmetric matrix once each, as one vector.

    The block above the diagonal comes whole; the upper triangle of the first block and the lower
    one of the last fit together into a second rectangle. So nothing is gathered entry by entry.

    The vector is ``[n (n + 1) / 2]`` with the diagonal, ``[n (n - 1) / 2]`` without. The diagonal
    comes divided by √2, so that inner products of vectors are half of those of the matrices.
    """
    # With h = n // 2 and m = n - h rows in the two blocks, m is h or h + 1. The entries above the
    # diagonal of the first block, h (h - 1) / 2, and those below the diagonal of the last one,
    # m (m - 1) / 2, make up a rectangle between them: the first above a staircase, the last below.
    first, last = gram.first, gram.last
    h, m = gram.cross.shape
    mask = _above(m, h + 1, first.device)
    out = first.new_empty(h * m + (m * (h + 1) if diagonal else h * (m - 1)))
    out[: h * m].view(h, m).copy_(gram.cross)
    if not diagonal:
        # [m - 1, h]. Row i takes first[i, j] where j > i and last[i + 1, j] elsewhere: of the last
        # block the row below, so that its diagonal, which is not wanted, is left out.
        rest = out[h * m :].view(m - 1, h)
        torch.where(mask[: m - 1, :h], first[: m - 1], last[1:, :h], out=rest)
        return out
    # [m, h + 1], one column more. Column 0 .. i of row i hold the last block to its diagonal, and
    # from column i + 1 on stands the first one, which begins with its diagonal.
    rest = out[h * m :].view(m, h + 1)
    rest[:, :m] = last
    rest[:h, 1:] = torch.where(mask[:h, 1:], first, rest[:h, 1:])
    rest.diagonal().mul_(0.5**0.5)
    rest.diagonal(1).mul_(0.5**0.5)
    return out


@functools.lru_cache(maxsize=8)
def _above(rows: int, columns: int, device: torch.device) -> Tensor:
    """Return the mask of the entries above the diagonal."""
    return torch.ones(rows, columns, dtype=torch.bool, device=device).triu(1)
