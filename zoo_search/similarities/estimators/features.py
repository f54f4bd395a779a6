"""From images to the feature vectors of every cut. Feature maps never leave this module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from zoo_search.core.errors import UserError, require
from zoo_search.linegraph.graph import Cut, LineGraph
from zoo_search.training.precision import has_bf16

_CHUNK = 64


def check_rules(pooling: str, prefix: str) -> None:
    """Raise :class:`UserError` if there is no such pooling or rule for prefix tokens."""
    rules = ("pool", pooling, ("avg", "none")), ("prefix", prefix, ("mean", "cls"))
    for what, name, allowed in rules:
        require(name, allowed, f"similarity: {what} cannot be '{name}'.")


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
    grid = {"nchw": (2, 3), "nhwc": (1, 2), "windows": (1, 2), "tokens": (1,)}[cut.layout]
    return x.mean(dim=grid, dtype=torch.float32)


def images_at_once(pooling: str, samples: int) -> int:
    """Return how many images of a batch go through a model at once, where memory holds them."""
    # Full maps are large: the whole batch goes at once, so that one cut's maps live at a time.
    return _CHUNK if pooling == "avg" else samples


def widths(graph: LineGraph, pooling: str = "avg", prefix: str = "mean") -> list[int]:
    """Return the number of features of each cut that :func:`pool` gives."""
    shapes = ((cut, torch.empty(1, *cut.shape, device="meta")) for cut in graph.cuts)
    return [pool(x, cut, pooling, prefix).shape[1] for cut, x in shapes]


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


def cut_features(
    graph: LineGraph,
    images: Callable[[slice], Tensor],
    ids: Sequence[str],
    pooling: str = "avg",
    prefix: str = "mean",
    precision: str = "fp32",
    *,
    channels_last: bool = False,
    chunk: int | None = None,
    name: str | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Yield index and features ``[n, d]`` (float32) of each cut, in order, on a batch of images.

    Only one cut's full maps live at a time.

    Args:
        graph: The model; its nodes are run as they are (see :func:`evaluating`), on the device
            that the images are on.
        images: Gives the normalised float images ``[b, C, H, W]`` of a slice of the batch.
        ids: Names of the images, for error messages.
        pooling: See :func:`pool`.
        prefix: See :func:`pool`.
        precision: ``fp32``, or ``bf16`` for autocast in the forward pass where the device has a
            unit for it.
        channels_last: Whether images go in as ``torch.channels_last``, as the nodes' modules should
            then be; pays where convolutions run on tensor cores.
        chunk: Images that go through the model at once; default: :func:`images_at_once`.
        name: What errors call the model; default: the graph's own name.

    Raises:
        UserError: If a feature is NaN or infinite: names model, cut and sample.
    """
    chunk = chunk or images_at_once(pooling, len(ids))
    found: list[list[Tensor]] = [[] for _ in graph.cuts]
    for start in range(0, len(ids), chunk):
        rows = slice(start, min(start + chunk, len(ids)))
        x = images(rows)
        if channels_last:
            x = x.to(memory_format=torch.channels_last)
        half = precision == "bf16" and has_bf16(x.device)
        # Autocast is entered node by node: what the caller does between two cuts is not under it.
        for index, tensor in _activations(graph, x, half):
            features = pool(tensor, graph.cuts[index], pooling, prefix).float()
            _check_finite(features, name or graph.name, graph.cuts[index], ids[rows])
            found[index].append(features)
            if rows.stop == len(ids):
                whole = features if len(found[index]) == 1 else torch.cat(found[index])
                found[index].clear()
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
