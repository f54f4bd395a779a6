"""Stitches whose weights come, by DPIAT, from the layers that the next block's model has there."""

from __future__ import annotations

import torch
from torch import nn

from zoo_search.dpiat import transfer
from zoo_search.errors import UserError
from zoo_search.linegraph.graph import LineGraph
from zoo_search.reassembly.stitch import Stitch

__all__ = ["inherit"]


def inherit(stitch: Stitch, graph: LineGraph, into: int) -> bool:
    """Fill a stitch from the node that makes its output in the next block's own model, in place.

    The source of the transfer (DPIAT, section 3) is node ``into - 1`` of that model, whose output
    is what the stitch has to make; the stitch's 1×1 convolution counts as a convolution or, where
    that node has none, as a linear layer. Weights outside the centre crops keep their values.

    Args:
        stitch: The stitch, filled already with values for what is not transferred.
        graph: The next block's model.
        into: The cut where the next block starts, 1 or above.

    Returns:
        Whether there was a layer of a common type.
    """
    source = graph.nodes[into - 1].module
    for target in (stitch, _as_linear(stitch)):
        try:
            transfer(source, target)
            return True
        except UserError:  # no layer type in common
            continue
    return False


def _as_linear(stitch: Stitch) -> nn.Module:
    """Return linear layers on the same memory as the stitch's maps."""
    layers = nn.ModuleList()
    for layer in (stitch.map, *stitch.prefix):
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert layer.bias is not None
        out, channels = layer.weight.shape[:2]
        with torch.device("meta"):
            twin = nn.Linear(channels, out)
        twin.weight = nn.Parameter(layer.weight.detach().view(out, channels))
        twin.bias = nn.Parameter(layer.bias.detach())
        layers.append(twin)
    return layers
