"""``params`` and ``macs``: the baselines that every proxy must beat."""

from __future__ import annotations

from zoo_search.linegraph.cost import count
from zoo_search.networks.network import ReassembledNet
from zoo_search.reassembly.proxies.batches import Batches
from zoo_search.reassembly.proxies.registry import proxy_traits


@proxy_traits(
    "all parameters",
    images="none",
    precision=None,
    meaning="The number of parameters: a baseline that looks at no image. Larger counts as better.",
)
def params(net: ReassembledNet, batches: Batches) -> float:
    """Return the number of parameters."""
    return float(sum(p.numel() for p in net.parameters()))


@proxy_traits(
    "convolutions, matrix products, attention",
    images="none",
    precision=None,
    meaning="The multiply-adds for one image: a baseline that looks at no image. Larger counts as "
    "better.",
)
def macs(net: ReassembledNet, batches: Batches) -> float:
    """Return the multiply-adds for one image."""
    return float(count(net, net.input_size)[1])
