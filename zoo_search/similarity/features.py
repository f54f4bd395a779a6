"""From images to the feature vectors of every cut, and on to the vectors that an estimator needs.

Feature maps never leave this module: what comes out is one embedding a cut.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from zoo_search.errors import UserError, nearest
from zoo_search.linegraph.graph import Cut, LineGraph
from zoo_search.similarity.estimators import Embedding, Metric

__all__ = ["POOLS", "PREFIX_RULES", "check_rules", "embed_cuts", "evaluating", "pool"]

POOLS = ("avg", "none")
PREFIX_RULES = ("mean", "cls")
_CHUNK = 64
"""Images that go through a model at once; a batch of the estimator may be larger."""


def check_rules(pooling: str, prefix: str) -> None:
    """Check the names of the pooling and of the rule for prefix tokens.

    Raises:
        UserError: If there is no such rule.
    """
    for what, name, allowed in (("pool", pooling, POOLS), ("prefix", prefix, PREFIX_RULES)):
        if name not in allowed:
            raise UserError(
                f"similarity: {what} cannot be '{name}'.{nearest(name, allowed)} "
                f"Allowed: {', '.join(allowed)}."
            )


def pool(x: Tensor, cut: Cut, pooling: str = "avg", prefix: str = "mean") -> Tensor:
    """Return the features ``[B, d]`` of a cut's tensor.

    Args:
        x: The tensor at the cut, ``[B, *cut.shape]``.
        cut: Its layout.
        pooling: ``avg``: mean over the grid, d = channels; ``none``: the full map, flattened,
            with its prefix tokens.
        prefix: With ``avg``, what stands for a cut that has prefix tokens: ``mean``, the mean of
            the grid's tokens; ``cls``, the first prefix token.
    """
    if pooling == "none":
        return x.flatten(1)
    if cut.layout == "nchw":
        return x.mean(dim=(2, 3), dtype=torch.float32)
    if cut.layout in ("nhwc", "windows"):
        return x.mean(dim=(1, 2), dtype=torch.float32)
    if prefix == "cls" and cut.prefix_tokens:
        return x[:, 0]
    return x[:, cut.prefix_tokens :].mean(dim=1, dtype=torch.float32)


@contextlib.contextmanager
def evaluating(graph: LineGraph) -> Iterator[None]:
    """Put the nodes in eval mode and turn gradients off; afterwards all is as it was."""
    modules = [module for node in graph.nodes for module in node.module.modules()]
    before = [(module, module.training) for module in modules]
    try:
        for module in modules:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, training in before:
            module.training = training


def embed_cuts(
    graph: LineGraph,
    images: Callable[[slice], Tensor],
    ids: Sequence[str],
    metric: Metric,
    *,
    pooling: str = "avg",
    prefix: str = "mean",
    precision: str = "fp32",
    name: str | None = None,
) -> list[Embedding]:
    """Return one embedding for each cut of a model on one batch of images.

    Args:
        graph: The model; its nodes are run as they are (see :func:`evaluating`).
        images: Gives the normalised float images ``[b, C, H, W]`` of a slice of the batch.
        ids: Names of the images, for error messages.
        metric: The estimator.
        pooling: See :func:`pool`.
        prefix: See :func:`pool`.
        precision: ``fp32``, or ``bf16`` for autocast in the forward pass.
        name: What errors call the model; default: the graph's own name.

    Raises:
        UserError: If a feature is NaN or infinite: names model, cut and sample.
    """
    parts: list[list[Tensor]] = [[] for _ in graph.cuts]
    embedded: list[Embedding] = []
    # Full maps are large: the whole batch goes at once, so that one cut's maps live at a time.
    chunk = _CHUNK if pooling == "avg" else len(ids)
    for start in range(0, len(ids), chunk):
        rows = slice(start, min(start + chunk, len(ids)))
        x = images(rows)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            for index, tensor in graph.activations(x):
                features = pool(tensor, graph.cuts[index], pooling, prefix).float()
                _check_finite(features, name or graph.name, graph.cuts[index], ids[rows])
                parts[index].append(features)
                if rows.stop == len(ids):
                    embedded.append(_embed(parts[index], metric))
    return embedded


def _embed(parts: list[Tensor], metric: Metric) -> Embedding:
    """Embed the features of a cut, in full precision, and let go of them."""
    whole = torch.cat(parts)
    parts.clear()
    with torch.autocast(whole.device.type, enabled=False):
        return metric.embed(whole)


def _check_finite(features: Tensor, name: str, cut: Cut, ids: Sequence[str]) -> None:
    bad = ~torch.isfinite(features).all(dim=1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise UserError(
            f"Model '{name}' gives a NaN or infinite feature at cut {cut.index} ({cut.name}) for "
            f"sample '{ids[row]}'. Look at that image and at the model's weights and "
            "normalisation, or try precision: fp32."
        )
