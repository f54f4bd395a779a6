"""Metrics by name: estimators of the similarity of two feature matrices.

A metric turns the features of a cut on a batch of images into vectors such that similarity is made
of their inner products. So all pairs of cuts are one matrix product, and a model costs its own
vectors only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from zoo_search.core.registry import Registry, traits_of, with_traits
from zoo_search.similarities.estimators.feature_space import is_cheaper


@dataclass(frozen=True)
class Embedding:
    """The vectors of one cut on one batch.

    Attributes:
        rows: ``[vectors, v]`` float32, each of unit length (or zero where a feature is constant).
            The first one stands for the cut as row of the table, the last one as column.
        norms: ``[vectors]`` float64, the lengths that the vectors had.
    """

    rows: Tensor
    norms: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> Embedding:
        """Return vectors ``[v]`` or ``[vectors, v]`` at unit length, with the lengths they had."""
        flat = vectors.reshape(-1, vectors.shape[-1])
        lengths = torch.linalg.vector_norm(flat, dim=1)
        rows = flat / lengths.where(lengths > 0, 1.0)[:, None]
        return cls(rows.to(torch.float32), lengths.double())


_WHERE = "similarity.metric"

Embed = Callable[[Tensor], Embedding]
"""Features ``[n, d]`` of a cut to the vectors of the batch; ``v`` follows from ``n`` alone."""

E = TypeVar("E", bound=Embed)

Products = Callable[[Sequence[Tensor]], Tensor]
"""Feature matrices ``[n, d_i]`` of a batch to the products ``[m, m]`` of all pairs."""


@dataclass(frozen=True)
class MetricTraits:
    """How a similarity is made of a metric's vectors.

    Attributes:
        vectors: Vectors a cut: 1, or 2 where a cut is another one as column than as row.
        summed: Sum numerators and denominators over batches and divide once; else the mean over
            batches of each batch's value, where vectors have the length 1 for themselves.
        symmetric: Whether ``value(a, b)`` equals ``value(b, a)``.
        diagonal: Whether the vectors are symmetric matrices with (True) or without (False) their
            diagonals; None where they are something else.
        products: The same without vectors, where there is such a form.
    """

    vectors: int = 1
    summed: bool = True
    symmetric: bool = True
    diagonal: bool | None = None
    products: Products | None = None


@dataclass(frozen=True, kw_only=True)
class Metric(MetricTraits):
    """A metric, ready for use: its traits, and what gives the vectors."""

    embed: Embed

    def shortcut(self, samples: int, widths: Sequence[int]) -> Products | None:
        """Return ``products`` where a batch of cuts of so many features is cheaper that way."""
        return self.products if self.products and is_cheaper(samples, widths) else None


METRICS = Registry[Embed](
    "similarity metric",
    {
        name: f"zoo_search.similarities.estimators.metrics:{name}"
        for name in ("cka", "cka_biased", "rbf_cka", "lr")
    },
    group="zoo_search.metrics",
)


def metric_traits(
    *,
    vectors: int = 1,
    summed: bool = True,
    symmetric: bool = True,
    diagonal: bool | None = None,
    products: Products | None = None,
) -> Callable[[E], E]:
    """Say how a similarity is made of a metric's vectors (:class:`MetricTraits`); a decorator."""
    return with_traits(MetricTraits(vectors, summed, symmetric, diagonal, products))


def register_metric(name: str) -> Callable[[E], E]:
    """Register a similarity metric under a name that run files can use; a decorator.

    A metric is called with the features ``[n, d]`` of a cut on a batch of images and returns an
    :class:`Embedding`: ``Embedding.of`` of one vector is enough where the similarity is the cosine
    of two cuts' vectors (summed over batches); :func:`metric_traits` says what is otherwise.
    Whoever starts ``zoo-search`` from the command line names the function in the run file instead
    (``module:package.mod:function``), or declares it in the package's entry points, group
    ``zoo_search.metrics``.

    Args:
        name: The name; registering the same metric again replaces it.

    Raises:
        UserError: If the name is one of ours, looks like a path, or is another metric's.
    """
    return METRICS.register(name)


def get_metric(name: str) -> Metric:
    """Return the metric of that name.

    Raises:
        UserError: If there is none.
    """
    embed = METRICS.get(name, _WHERE)
    return Metric(embed=embed, **vars(traits_of(embed, MetricTraits())))


def metric_identity(name: str) -> list[object]:
    """Return what decides on a user's own metric beside its name, JSON-like; empty for ours."""
    traits = {k: v for k, v in vars(get_metric(name)).items() if isinstance(v, bool | int)}
    return [[code, traits] for code in METRICS.identity([name], _WHERE).values()]


def vector_length(name: str, samples: int) -> int:
    """Return the length of the vectors of a batch of so many images.

    Raises:
        UserError: If there is no such metric.
    """
    metric = get_metric(name)
    if metric.diagonal is not None:
        return samples * (samples + (1 if metric.diagonal else -1)) // 2
    noise = torch.randn(samples, 2, generator=torch.Generator().manual_seed(0))
    return metric.embed(noise).rows.shape[1]
