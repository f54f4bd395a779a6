"""Sums over batches of the inner products of all pairs of cuts, and the similarities from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoo_search.similarities.estimators.registry import Embedding, Metric

Vectors = tuple[Tensor, Tensor]
"""Of some cuts, as in :class:`~.registry.Embedding`: rows ``[cuts, vectors, v]``, norms
``[cuts, vectors]``."""

_STRIPS = 4
"""Strips of a symmetric product: 5/8 of the work of the whole square, at the same rate."""

_CHUNK = 1 << 14
"""Entries of the vectors that are summed in float32; sums of these are in float64."""


class PairSums:
    """Sums over batches of the inner products of the pairs of ``n`` cuts.

    Either :meth:`add` gets a whole batch, or :meth:`add_tile` gets it tile by tile, where the
    vectors of all cuts do not fit into memory at once, and :meth:`end_batch` ends it.

    Args:
        metric: The estimator.
        n: Number of cuts.
        fresh: ``[n]``, marks the cuts whose rows and columns are wanted; default: all. Of the
            others only the product with themselves is computed, which the values divide by.

    Attributes:
        computed: Inner products computed so far.
    """

    def __init__(self, metric: Metric, n: int, fresh: npt.NDArray[np.bool_] | None = None) -> None:
        self.metric = metric
        self.computed = 0
        self._fresh = torch.ones(n, dtype=torch.bool) if fresh is None else torch.tensor(fresh)
        if self._fresh.shape != (n,) or self._fresh.dtype != torch.bool:
            raise ValueError(f"fresh must be {n} booleans.")
        self._sums = torch.zeros(n, n, dtype=torch.float64)
        self._batches = 0
        self._done: set[tuple[int, int]] = set()

    def add(self, rows: Tensor, norms: Tensor) -> None:
        """Add one batch of all cuts (:data:`Vectors`)."""
        every = slice(0, len(self._fresh))
        self.add_tile(every, every, (rows, norms), (rows, norms))
        self.end_batch()

    def add_features(self, features: Iterable[Tensor], samples: int, widths: Sequence[int]) -> None:
        """Add one batch of all cuts' features ``[samples, d_i]``, in the space that costs less.

        Either they are all kept for their products, or each only until its vectors are made; the
        ``widths`` are the d_i.
        """
        products_of = self.metric.shortcut(samples, widths)
        if products_of is None:
            self.add(*stack(map(self.metric.embed, features), len(widths)))
            return
        products = products_of(list(features))
        self._sums += products.double().cpu()
        self.computed += products.numel()
        self._batches += 1

    def wants(self, i: slice, j: slice) -> bool:
        """Say whether a tile adds anything: always on the diagonal, else where a cut is fresh."""
        return i == j or bool(self._fresh[i].any() or self._fresh[j].any())

    def add_tile(self, i: slice, j: slice, left: Vectors, right: Vectors) -> None:
        """Add the tile of cuts ``i`` and cuts ``j`` of one batch's product, in both directions.

        The slices of a batch, with start and stop, cut ``0 .. n`` into runs, the same ones for rows
        and columns, and every diagonal tile is there. A pair of runs is given once, in either
        order; the second of two orders is passed over, and so is a tile that :meth:`wants` nothing.
        """
        if (i.start, j.start) in self._done or not self.wants(i, j):
            return
        self._done |= {(i.start, j.start), (j.start, i.start)}
        (rows_i, norms_i), (rows_j, norms_j) = left, right
        fresh_i, fresh_j = self._fresh[i], self._fresh[j]
        if i == j:
            product = self._square(rows_i[:, 0], rows_i[:, -1], fresh_i)
            self._sums[i, i] += _weighted(product, norms_i, norms_i)
            return
        product = self._where_fresh(rows_i[:, 0], rows_j[:, -1], fresh_i, fresh_j)
        self._sums[i, j] += _weighted(product, norms_i, norms_j)
        product = product.T
        if not self.metric.symmetric:
            product = self._where_fresh(rows_j[:, 0], rows_i[:, -1], fresh_j, fresh_i)
        self._sums[j, i] += _weighted(product, norms_j, norms_i)

    def end_batch(self) -> None:
        """End a batch that was given in tiles."""
        self._batches += 1
        self._done.clear()

    def values(self, known: npt.ArrayLike | None = None) -> npt.NDArray[np.float32]:
        """Return the similarities ``[n, n]``: as they come, not clipped; the diagonal is 1.

        A cut whose features do not vary over the images has similarity 0 with every other. Where
        neither cut is fresh, the values are those of ``known``, ``[n, n]``.

        Raises:
            ValueError: If some cut is not fresh and ``known`` is not given or of another shape.
        """
        sums = self._sums
        if self.metric.symmetric:  # to the last bit, whatever way a tile was rounded
            sums = (sums + sums.T) / 2
        if self.metric.summed:
            scale = sums.diagonal().clamp(min=0).rsqrt()
            scale[torch.isinf(scale)] = 0
            sums = sums * scale[:, None] * scale[None, :]
        else:
            sums = sums / max(self._batches, 1)
        out: npt.NDArray[np.float32] = sums.to(torch.float32).fill_diagonal_(1).numpy()
        if self._fresh.all():
            return out
        old = np.asarray(known, dtype=np.float32)
        if known is None or old.shape != out.shape:
            raise ValueError(f"Values of the cuts that are not fresh must be {list(out.shape)}.")
        fresh = self._fresh.numpy()
        return np.where(fresh[:, None] | fresh[None, :], out, old)

    def _square(self, a: Tensor, b: Tensor, fresh: Tensor) -> Tensor:
        """Return ``a bᵀ`` of cuts with themselves: the fresh rows and columns and the diagonal."""
        n, count = len(a), int(fresh.sum())
        # The strips of the upper triangle cost 5/8 of the square; fewer fresh rows cost less alone.
        if self.metric.symmetric and 8 * count >= 5 * n:
            return self._symmetric(a)
        if self.metric.symmetric:
            out = a.new_zeros(n, n, dtype=torch.float64)
            if count:
                strip = self._product(_pick(a, fresh), a)
                out[fresh] = strip
                out[:, fresh] = strip.T
        else:
            out = self._where_fresh(a, b, fresh, fresh)
        # Cuts that are not fresh are divided by their own product, too: n dot products, no matrix.
        if count < n:
            pairs = zip(_split(a), _split(b), strict=True)
            own = torch.stack([torch.linalg.vecdot(x, y).double() for x, y in pairs]).sum(dim=0)
            self.computed += n - count
            out.diagonal()[~fresh] = own[~fresh.to(own.device)]
        return out

    def _symmetric(self, a: Tensor) -> Tensor:
        """Return ``a aᵀ`` from the strips of its upper triangle."""
        n = len(a)
        step = -(-n // _STRIPS)
        strips = [(start, min(start + step, n)) for start in range(0, n, step)]
        out = a.new_zeros(n, n, dtype=torch.float64)
        for chunk in _split(a):  # All strips of a chunk while it is in the cache.
            for start, stop in strips:
                out[start:stop, start:] += chunk[start:stop] @ chunk[start:].T
        for start, stop in strips:
            out[stop:, start:stop] = out[start:stop, stop:].T
            self.computed += (stop - start) * (n - start)
        return out

    def _where_fresh(self, a: Tensor, b: Tensor, fresh_a: Tensor, fresh_b: Tensor) -> Tensor:
        """Return ``a bᵀ`` where a row or a column is fresh, 0 elsewhere."""
        if fresh_a.all() or fresh_b.all():
            return self._product(a, b)
        out = a.new_zeros(len(a), len(b), dtype=torch.float64)
        if fresh_a.any():
            out[fresh_a] = self._product(_pick(a, fresh_a), b)
        # The fresh columns, of the rows that are not there yet.
        if fresh_b.any():
            rest = self._product(_pick(a, ~fresh_a), _pick(b, fresh_b))
            out[(~fresh_a).nonzero(), fresh_b.nonzero().T] = rest
        return out

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        self.computed += len(a) * len(b)
        # Products of chunks in float32, whose sum float64 takes: the speed of the one with nearly
        # the exactness of the other.
        out = a.new_zeros(len(a), len(b), dtype=torch.float64)
        for left, right in zip(_split(a), _split(b), strict=True):
            out += left @ right.T
        return out


def stack(embedded: Iterable[Embedding], count: int) -> Vectors:
    """Return the vectors of a batch's cuts; each is let go of before the next one is asked for."""
    rows = norms = torch.empty(0)
    for index, one in enumerate(embedded):
        if index == 0:
            rows = one.rows.new_empty(count, *one.rows.shape)
            norms = one.norms.new_empty(count, *one.norms.shape)
        rows[index], norms[index] = one.rows, one.norms
    return rows, norms


def _split(rows: Tensor) -> tuple[Tensor, ...]:
    chunks: tuple[Tensor, ...] = torch.split(rows, _CHUNK, dim=1)
    return chunks


def _pick(rows: Tensor, mask: Tensor) -> Tensor:
    """Return the rows under a mask, without a copy where they stand together."""
    places = mask.nonzero().flatten()
    first, last = int(places[0]), int(places[-1])
    if last - first + 1 == len(places):
        return rows[first : last + 1]
    return rows[places.to(rows.device)]


def _weighted(product: Tensor, norms_a: Tensor, norms_b: Tensor) -> Tensor:
    """Return the products of unit vectors times the vectors' lengths, in float64 on the CPU."""
    return product.cpu() * norms_a[:, :1].cpu() * norms_b[:, -1:].T.cpu()
