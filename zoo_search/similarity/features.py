"""From images to the feature vectors of every cut, and on to the vectors that an estimator needs.

Feature maps never leave this module: what comes out is one embedding a cut.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from zoo_search.errors import UserError, nearest
from zoo_search.linegraph.graph import Cut, LineGraph
from zoo_search.similarity.estimators import Embedding, Metric

__all__ = [
    "POOLS",
    "PREFIX_RULES",
    "check_rules",
    "cut_features",
    "embed_cuts",
    "evaluating",
    "pool",
    "widths",
]

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
        pooling: ``avg``: mean over the grid, d = channels; ``none``: the full map, flattened.
        prefix: What stands for a cut that has prefix tokens: ``mean``, the grid's tokens (their
            mean with ``avg``, all of them with ``none``) without the prefix tokens; ``cls``, the
            first prefix token alone. Cuts without prefix tokens are the same under both rules.
    """
    if cut.prefix_tokens:
        x = x[:, :1] if prefix == "cls" else x[:, cut.prefix_tokens :]
    if pooling == "none":
        return x.flatten(1)
    if cut.layout == "nchw":
        return x.mean(dim=(2, 3), dtype=torch.float32)
    if cut.layout in ("nhwc", "windows"):
        return x.mean(dim=(1, 2), dtype=torch.float32)
    return x.mean(dim=1, dtype=torch.float32)


def widths(graph: LineGraph, pooling: str = "avg", prefix: str = "mean") -> list[int]:
    """Return the number of features of each cut that :func:`pool` gives."""
    out = []
    for cut in graph.cuts:
        places = 1 if pooling == "avg" else math.prod(cut.shape) // cut.channels
        if pooling == "none" and cut.prefix_tokens:
            places = 1 if prefix == "cls" else places - cut.prefix_tokens
        out.append(cut.channels * places)
    return out


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
    channels_last: bool = False,
    chunk: int | None = None,
    name: str | None = None,
) -> list[Embedding]:
    """Return one embedding for each cut of a model on one batch of images.

    Only one cut's full maps live at a time. Arguments and errors are those of
    :func:`cut_features`, and the estimator.
    """
    found: dict[int, Embedding] = {}
    for index, features in cut_features(
        graph,
        images,
        ids,
        pooling=pooling,
        prefix=prefix,
        precision=precision,
        channels_last=channels_last,
        chunk=chunk,
        name=name,
    ):
        found[index] = metric.embed(features)
    return [found[index] for index in range(len(graph.cuts))]


def cut_features(
    graph: LineGraph,
    images: Callable[[slice], Tensor],
    ids: Sequence[str],
    *,
    pooling: str = "avg",
    prefix: str = "mean",
    precision: str = "fp32",
    channels_last: bool = False,
    chunk: int | None = None,
    name: str | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Yield index and features ``[n, d]`` (float32) of each cut of a model on a batch of images.

    Args:
        graph: The model; its nodes are run as they are (see :func:`evaluating`), on the device
            that the images are on.
        images: Gives the normalised float images ``[b, C, H, W]`` of a slice of the batch.
        ids: Names of the images, for error messages.
        pooling: See :func:`pool`.
        prefix: See :func:`pool`.
        precision: ``fp32``, or ``bf16`` for autocast in the forward pass.
        channels_last: Whether images go in as ``torch.channels_last``, as the nodes' modules should
            then be; pays where convolutions run on tensor cores.
        chunk: Images that go through the model at once; default: 64, or with ``none`` all.
        name: What errors call the model; default: the graph's own name.

    Raises:
        UserError: If a feature is NaN or infinite: names model, cut and sample.
    """
    parts: list[list[Tensor]] = [[] for _ in graph.cuts]
    # Full maps are large: the whole batch goes at once, so that one cut's maps live at a time.
    chunk = chunk or (_CHUNK if pooling == "avg" else len(ids))
    for start in range(0, len(ids), chunk):
        rows = slice(start, min(start + chunk, len(ids)))
        x = images(rows)
        if channels_last:
            x = x.to(memory_format=torch.channels_last)
        # Autocast is entered node by node: what the caller does between two cuts is not under it.
        for index, tensor in _activations(graph, x, precision == "bf16"):
            features = pool(tensor, graph.cuts[index], pooling, prefix).float()
            _check_finite(features, name or graph.name, graph.cuts[index], ids[rows])
            parts[index].append(features)
            if rows.stop == len(ids):
                whole = features if len(parts[index]) == 1 else torch.cat(parts[index])
                parts[index].clear()
                yield index, whole


def _activations(graph: LineGraph, x: Tensor, half: bool) -> Iterator[tuple[int, Tensor]]:
    """Yield the tensors at the cuts; with ``half``, nodes run under autocast to bfloat16."""
    steps = graph.activations(x)
    while True:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            found = next(steps, None)
        if found is None:
            return
        yield found


def _check_finite(features: Tensor, name: str, cut: Cut, ids: Sequence[str]) -> None:
    if torch.isfinite(features.sum()):  # One pass; what is not finite shows in the sum.
        return
    bad = ~torch.isfinite(features).all(dim=1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise UserError(
            f"Model '{name}' gives a NaN or infinite feature at cut {cut.index} ({cut.name}) for "
            f"sample '{ids[row]}'. Look at that image and at the model's weights and "
            "normalisation, or try precision: fp32."
        )
