"""Training-free scores of a network on the target data, by name; more is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from zoo_search.errors import UserError, nearest
from zoo_search.linegraph.cost import count
from zoo_search.reassembly.network import ReassembledNet
from zoo_search.reassembly.proxies.batches import Batches
from zoo_search.reassembly.proxies.conditions import conditions
from zoo_search.reassembly.proxies.gradients import fisher, grad_norm, snip, synflow
from zoo_search.reassembly.proxies.jacobian import jacov
from zoo_search.reassembly.proxies.leep import leep
from zoo_search.reassembly.proxies.logme import logme
from zoo_search.reassembly.proxies.naswot import naswot, naswot_dery
from zoo_search.reassembly.proxies.probe import probe

__all__ = ["PROXIES", "Batches", "Proxy", "check_proxies", "conditions", "score"]

Proxy = Callable[[ReassembledNet, Batches], float]


def params(net: ReassembledNet, batches: Batches) -> float:
    """Return the number of parameters: a baseline that every proxy must beat."""
    return float(sum(p.numel() for p in net.parameters()))


def macs(net: ReassembledNet, batches: Batches) -> float:
    """Return the multiply-adds for one image: a baseline that every proxy must beat."""
    return float(count(net, net.input_size)[1])


PROXIES: dict[str, Proxy] = {
    "naswot": naswot,
    "naswot_dery": naswot_dery,
    "probe": probe,
    "logme": logme,
    "leep": leep,
    "grad_norm": grad_norm,
    "snip": snip,
    "fisher": fisher,
    "synflow": synflow,
    "jacov": jacov,
    "params": params,
    "macs": macs,
}


def check_proxies(names: Iterable[str]) -> None:
    """Check names of proxies.

    Raises:
        UserError: If one is unknown: names the nearest one.
    """
    for name in names:
        if name not in PROXIES:
            raise UserError(
                f"Unknown proxy '{name}' in 'search.proxies'.{nearest(name, PROXIES)} "
                f"Allowed: {', '.join(PROXIES)}."
            )


def score(net: ReassembledNet, name: str, batches: Batches) -> float:
    """Return one score of a network in eval mode, always finite; the network is left as it was.

    Raises:
        ValueError: If the score is NaN or infinite, or cannot be had; says why.
    """
    training = [module for module in net.modules() if module.training]
    if training:
        net.eval()
    try:
        value = PROXIES[name](net, batches)
    finally:
        for module in training:
            module.training = True
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}")
    return value
