"""Similarity in memory, without Ray and without a run: for whoever only wants CKA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo_search.errors import UserError
from zoo_search.linegraph.graph import LineGraph
from zoo_search.similarity.estimators import MIN_IMAGES, Embedding, PairSums, get_metric
from zoo_search.similarity.features import check_rules, embed_cuts, evaluating
from zoo_search.similarity.table import ModelCuts, SimilarityTable

__all__ = ["chunks", "cuts_of", "similarity", "stack"]


def similarity(
    models: Mapping[str, Any],
    images: Tensor,
    metric: str = "cka",
    batch_size: int = 256,
    pool: str = "avg",
    prefix: str = "mean",
    precision: str = "fp32",
) -> SimilarityTable:
    """Return the similarity of every two cuts of the models on the same images.

    Example:
        >>> table = similarity({"a": model_a, "b": model_b}, images)  # doctest: +SKIP
        >>> table.block("a", "b")  # doctest: +SKIP

    Args:
        models: Name to ``nn.Module`` (traced at the size of the images), ``LineGraph`` or
            ``ZooModel``.
        images: ``[N, C, H, W]``, N >= 4. Float images are taken as already normalised; uint8
            images are normalised by each model's own transform, which only a ``ZooModel`` has.
        metric: ``cka``, ``cka_biased``, ``rbf_cka`` or ``lr``.
        batch_size: Images a batch, in order; a last batch of fewer than 4 joins the one before.
        pool: ``avg`` (mean over the grid) or ``none`` (full maps).
        prefix: With ``avg``: ``mean`` of the grid's tokens, or the first (``cls``) prefix token.
        precision: ``fp32``, or ``bf16`` for the forward pass.

    Raises:
        UserError: If there are fewer than 4 images, a metric or rule is unknown, the images do
            not fit a model, or a feature is NaN or infinite.
    """
    estimator = get_metric(metric)
    check_rules(pool, prefix)
    if images.ndim != 4:
        raise UserError(f"images must be [N, C, H, W], not of shape {list(images.shape)}.")
    if not models:
        raise UserError("There are no models to compare; give at least one.")
    batches = chunks(len(images), batch_size)
    graphs = {name: _graph_of(name, model, images) for name, model in models.items()}
    prepare = {name: _normaliser(name, model, images) for name, model in models.items()}
    ids = [str(index) for index in range(len(images))]

    sums = PairSums(estimator, sum(len(graph.cuts) for graph in graphs.values()))
    for batch in batches:
        found: list[Embedding] = []
        for name, graph in graphs.items():
            with evaluating(graph):
                found += embed_cuts(
                    graph,
                    lambda rows, b=batch, n=name: prepare[n](images[b][rows]),  # type: ignore[misc]
                    ids[batch],
                    estimator,
                    pooling=pool,
                    prefix=prefix,
                    precision=precision,
                    name=name,
                )
        sums.add(*stack(found))
    metadata = {
        "metric": metric,
        "samples": len(images),
        "batch_size": batch_size,
        "dataset": None,
        "pool": pool,
        "prefix": prefix,
        "precision": precision,
    }
    return SimilarityTable(
        {name: cuts_of(graph) for name, graph in graphs.items()}, sums.values(), metadata
    )


def chunks(samples: int, batch_size: int) -> list[slice]:
    """Return the batches of so many samples; a last one below 4 joins the one before.

    Raises:
        UserError: If there are fewer than 4 samples, or the batch size is below 4.
    """
    if min(samples, batch_size) < MIN_IMAGES:
        raise UserError(
            f"Similarity needs batches of at least {MIN_IMAGES} images, and there are {samples} "
            f"images with batch_size {batch_size}: the unbiased estimator divides by n - 3. Raise "
            "similarity.fraction or similarity.limit, give more images, or raise batch_size."
        )
    starts = list(range(0, samples, batch_size))
    if samples - starts[-1] < MIN_IMAGES:
        starts.pop()
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], samples], strict=True)]


def cuts_of(graph: LineGraph) -> ModelCuts:
    """Return what the table records of a model."""
    return ModelCuts(
        [cut.name for cut in graph.cuts],
        [node.params for node in graph.nodes],
        [node.macs for node in graph.nodes],
    )


def stack(embedded: Sequence[Embedding]) -> tuple[Tensor, Tensor]:
    """Return the rows ``[cuts, parts, v]`` and norms ``[cuts, parts]`` of the cuts of a batch."""
    rows = torch.stack([e.rows.cpu() for e in embedded])
    return rows, torch.stack([e.norms.cpu() for e in embedded])


def _graph_of(name: str, model: Any, images: Tensor) -> LineGraph:
    if isinstance(model, LineGraph):
        graph = model
    elif isinstance(model, nn.Module):
        from zoo_search.linegraph import trace

        channels, height, width = images.shape[1:]
        graph = trace(model, input_size=(channels, height, width), name=name)
    else:
        graph = model.graph
    if tuple(graph.input_size) != tuple(images.shape[1:]):
        raise UserError(
            f"Model '{name}' takes images of size {list(graph.input_size)}, and these are "
            f"{list(images.shape[1:])}. Resize the images, or trace the model at their size."
        )
    return graph


def _normaliser(name: str, model: Any, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what turns a slice of the images into what the model sees."""
    if images.is_floating_point():
        return lambda x: x.to(torch.float32)
    transform = getattr(model, "transform", None)
    if images.dtype != torch.uint8 or isinstance(model, nn.Module) or transform is None:
        raise UserError(
            f"Model '{name}' has no normalisation of its own, and the images are {images.dtype}. "
            "Give float images that are normalised as the model wants them, or a model of a zoo."
        )
    normalise: Callable[[Tensor], Tensor] = transform.normalize
    return normalise
