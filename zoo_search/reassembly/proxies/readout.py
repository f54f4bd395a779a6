"""What a network says of every target image: pooled features, and its source head's logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo_search.networks.groups import spread_scales
from zoo_search.networks.network import Pool, ReassembledNet
from zoo_search.reassembly.proxies.batches import Batches

_CHUNK = 64


def pooled_features(net: ReassembledNet, batches: Batches) -> Tensor:
    """Return pooled features ``[N, C]`` of all different images, whatever the head.

    They are what a target head reads: with taps, of every block, each brought to one spread.

    The forward passes are shared with :func:`source_logits` through ``batches.cache``.

    Raises:
        ValueError: If they are not finite.
    """
    pooled = check_finite(_read(net, batches)[0], "features are")
    if not net.taps:
        return pooled
    return pooled * spread_scales(pooled, net.widths).to(pooled.dtype)


def source_logits(net: ReassembledNet, batches: Batches) -> Tensor:
    """Return what the source's head says of all different images, ``[N, classes]``.

    That is the recipe's own head with ``head: source``; else the head of the last block's model,
    which is taken from ``batches.zoo``.

    Raises:
        ValueError: If the last block does not end where its model does, or the zoo is not known,
            or the model has no classifier, or the logits are not finite.
    """
    _source_head(net, batches)  # say what is missing before anything is computed
    return check_finite(_read(net, batches)[1], "source head's logits are")


def _read(net: ReassembledNet, batches: Batches) -> Sequence[Tensor]:
    if batches.cache is None:
        return _forward(net, batches)
    key = ("readout", net.recipe.key)
    return batches.cache.get(key, lambda: _forward(net, batches))


@torch.no_grad()
def _forward(net: ReassembledNet, batches: Batches) -> tuple[Tensor, Tensor]:
    pool, logits = Pool(net.cut), []
    pooled: list[Tensor] = []
    try:
        head = _source_head(net, batches)
    except ValueError:
        head = None
    for start in range(0, len(batches.distinct), _CHUNK):
        chosen = batches.distinct[start : start + _CHUNK]
        features, taps = net.read(batches.for_net(net, chosen))
        pooled.append(torch.cat([*taps, pool(features)], dim=1) if taps else pool(features))
        logits.append(features.new_empty(len(features), 0) if head is None else head(features))
    return torch.cat(pooled), torch.cat(logits)


def _source_head(net: ReassembledNet, batches: Batches) -> nn.Module:
    if net.recipe.head == "source":
        return net.head
    last = net.recipe.blocks[-1]
    if batches.zoo is None or last.model not in batches.zoo:
        raise ValueError(f"the head of {last.model} is needed, and the zoo is not at hand")
    graph = batches.zoo[last.model].graph
    if last.stop != len(graph):
        raise ValueError(
            f"the source's head cannot be applied: the last block, {last}, ends before node "
            f"{len(graph)}, where {last.model} has its head"
        )
    if not any(True for _ in graph.head.parameters()):
        raise ValueError(f"{last.model} has no classifier for the source's classes")
    return graph.head


def check_finite(x: Tensor, what: str) -> Tensor:
    """Return ``x``; raise a ``ValueError`` if it holds a number that is not finite."""
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"the {what} not finite")
    return x
