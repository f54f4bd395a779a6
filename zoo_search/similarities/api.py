"""Similarity in memory, without Ray and without a run: for whoever only wants CKA."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zoo_search.core.errors import UserError
from zoo_search.linegraph.graph import LineGraph
from zoo_search.similarities.estimators.features import (
    check_rules,
    cut_features,
    evaluating,
    widths,
)
from zoo_search.similarities.estimators.kernels import MIN_IMAGES
from zoo_search.similarities.estimators.products import PairSums
from zoo_search.similarities.estimators.registry import get_metric
from zoo_search.similarities.table import ModelCuts, SimilarityTable
from zoo_search.training.precision import Precision, precision_on

if TYPE_CHECKING:
    from zoo_search.zoo.models import ZooModel


def similarity(
    models: Mapping[str, nn.Module | LineGraph | ZooModel],
    images: Tensor,
    metric: str = "cka",
    batch_size: int = 256,
    pool: str = "avg",
    prefix: str = "mean",
    precision: Precision = "fp32",
) -> SimilarityTable:
    """Return the similarity of every two cuts of the models on the same images.

    Everything happens in memory, in this process, on the devices that the models are on. Models
    are put into eval mode while they run and left as they were.

    Example:
        >>> a, b = torchvision.models.resnet18(), torchvision.models.mobilenet_v3_small()
        >>> images = torch.randn(256, 3, 64, 64)  # normalised, as the models want them
        >>> table = similarity({"a": a, "b": b}, images)
        >>> table
        SimilarityTable(cka: 2 models, 21 cuts)
        >>> table.block("a", "b").shape  # one value for each cut of a and each cut of b
        (9, 12)
        >>> table.models["a"].cuts[:3]
        ['image', 'layer1.0', 'layer1.1']
        >>> table.value("a", 2, "b", 3)  # a float

    Args:
        models: Name to ``nn.Module`` (traced at the size of the images), ``LineGraph`` or
            ``ZooModel``.
        images: ``[N, C, H, W]``, N >= 4. Float images are taken as already normalised; uint8
            images are normalised by each model's own transform, which only a ``ZooModel`` has.
        metric: ``cka`` (minibatch unbiased), ``cka_biased``, ``rbf_cka`` or ``lr``.
        batch_size: Images a batch, in order; a last batch of fewer than 4 joins the one before.
            One batch of all images gives the full-batch estimator.
        pool: ``avg`` (mean over the grid) or ``none`` (full maps).
        prefix: What stands for tokens with prefix tokens: ``mean``, those of the grid, or ``cls``,
            the first prefix token.
        precision: ``fp32``, or ``bf16`` for the forward pass; on a CPU that has no unit for bf16,
            fp32 is taken with a warning.

    Returns:
        The table: ``.value(model_a, cut_a, model_b, cut_b)``, ``.block(model_a, model_b)`` as an
        array, ``.values`` for all cuts, ``.save(path)``. Values are not clipped: the unbiased
        estimators are slightly negative where features have nothing in common.

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
    sources = [_source(name, model, images) for name, model in models.items()]
    width = [d for source in sources for d in widths(source.graph, pool, prefix)]
    precision = precision_on(images.device, precision, warnings.warn)
    rules = pool, prefix, precision

    sums = PairSums(estimator, len(width))
    for batch in batches:
        with contextlib.closing(_features(sources, images, batch, rules)) as features:
            sums.add_features(features, batch.stop - batch.start, width)
    metadata = {
        "metric": metric,
        "samples": len(images),
        "batch_size": batch_size,
        "dataset": None,
        "pool": pool,
        "prefix": prefix,
        "precision": precision,
    }
    cuts = {source.name: ModelCuts.of(source.graph) for source in sources}
    return SimilarityTable(cuts, sums.values(), metadata)


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


@dataclass(frozen=True)
class _Source:
    """A model and what it needs to see an image."""

    name: str
    graph: LineGraph
    prepare: Callable[[Tensor], Tensor]
    device: torch.device


def _source(name: str, model: nn.Module | LineGraph | ZooModel, images: Tensor) -> _Source:
    """Look at a model, and whether it takes the images."""
    prepare: Callable[[Tensor], Tensor] = Tensor.float
    if not images.is_floating_point():
        if images.dtype != torch.uint8 or isinstance(model, nn.Module | LineGraph):
            raise UserError(
                f"Model '{name}' has no normalisation of its own, and the images are "
                f"{images.dtype}. Give float images that are normalised as the model wants them, "
                "or a model of a zoo."
            )
        prepare = model.transform.normalize
    if isinstance(model, nn.Module):
        from zoo_search.linegraph import trace

        channels, height, width = images.shape[1:]
        graph = trace(model, input_size=(channels, height, width), name=name)
    else:
        graph = model if isinstance(model, LineGraph) else model.graph
    if tuple(graph.input_size) != tuple(images.shape[1:]):
        raise UserError(
            f"Model '{name}' takes images of size {list(graph.input_size)}, and these are "
            f"{list(images.shape[1:])}. Resize the images, or trace the model at their size."
        )
    parameters = (tensor for node in graph.nodes for tensor in node.module.parameters())
    device = next((tensor.device for tensor in parameters), images.device)
    return _Source(name, graph, prepare, device)


def _features(
    sources: Sequence[_Source], images: Tensor, batch: slice, rules: tuple[str, str, str]
) -> Generator[Tensor, None, None]:
    """Yield the features of all cuts of all models, on the device of the first model."""
    ids = [str(index) for index in range(batch.start, batch.stop)]
    for source in sources:

        def prepared(rows: slice, source: _Source = source) -> Tensor:
            return source.prepare(images[batch][rows].to(source.device))

        with evaluating(source.graph):
            for _, features in cut_features(source.graph, prepared, ids, *rules, name=source.name):
                yield features.to(sources[0].device)
