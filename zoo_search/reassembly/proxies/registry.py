"""The proxies by name, what each says of itself, and how one is taken."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from zoo_search.core import registry
from zoo_search.core.registry import Registry, with_traits
from zoo_search.networks.network import ReassembledNet
from zoo_search.reassembly.proxies.batches import Batches

Proxy = Callable[[ReassembledNet, Batches], float]
"""Scores a network in eval mode, more is better; what has no score raises a ``ValueError``."""

P = TypeVar("P", bound=Proxy)
Seen = Literal["batches", "all", "none"]

_HERE = "zoo_search.reassembly.proxies"

PROXIES = Registry[Proxy](
    "proxy",
    {
        "naswot": f"{_HERE}.naswot:naswot",
        "naswot_dery": f"{_HERE}.naswot_dery:naswot_dery",
        "probe": f"{_HERE}.probe:probe",
        "logme": f"{_HERE}.logme:logme",
        "leep": f"{_HERE}.leep:leep",
        "grad_norm": f"{_HERE}.gradients:grad_norm",
        "snip": f"{_HERE}.gradients:snip",
        "fisher": f"{_HERE}.gradients:fisher",
        "synflow": f"{_HERE}.synflow:synflow",
        "jacov": f"{_HERE}.jacobian:jacov",
        "params": f"{_HERE}.baselines:params",
        "macs": f"{_HERE}.baselines:macs",
    },
    group="zoo_search.proxies",
)


def register_proxy(name: str) -> Callable[[P], P]:
    """Register a proxy under a name that run files can use; a decorator.

    A proxy is called with a :class:`~zoo_search.networks.network.ReassembledNet` in eval mode and
    the :class:`.Batches` of target images, and returns a finite score, more is better; what has no
    score raises a ``ValueError``. :func:`.proxy_traits` says what it looks at. Whoever starts
    ``zoo-search`` from the command line names the function in the run file instead
    (``module:package.mod:function``), or declares it in the package's entry points, group
    ``zoo_search.proxies``.

    Args:
        name: The name; registering the same proxy again replaces it.

    Raises:
        UserError: If the name is one of ours, looks like a path, or is another proxy's.
    """
    return PROXIES.register(name)


def find_proxies(names: Iterable[str], where: str = "search.proxies") -> dict[str, Proxy]:
    """Return proxies by name, in order.

    Raises:
        UserError: If there is no such proxy: names the nearest one.
    """
    return {name: PROXIES.get(name, where) for name in names}


def score(net: ReassembledNet, proxy: str | Proxy, batches: Batches) -> float:
    """Return one score of a network in eval mode, always finite; the network is left as it was.

    Raises:
        ValueError: If the score is NaN or infinite, or cannot be had; says why.
    """
    call = PROXIES.get(proxy, "proxy") if isinstance(proxy, str) else proxy
    training = [module for module in net.modules() if module.training]
    if training:
        net.eval()
    try:
        value = call(net, batches)
    finally:
        for module in training:
            module.training = True
    if not math.isfinite(value):
        raise ValueError(f"the score is {value}")
    return value


@dataclass(frozen=True)
class ProxyTraits:
    """What a proxy looks at."""

    hooks: str  # the units or layers that the score is read from
    images: Seen = "batches"  # drawn by seed, all different ones of the target, or none
    precision: str | None = "fp32"  # of its forward pass; None where it has none
    version: int = 1  # of its definition: scores of another version are not taken over
    meaning: str = ""  # what its number says, in a sentence or two for people


def proxy_traits(
    hooks: str,
    *,
    images: Seen = "batches",
    precision: str | None = "fp32",
    version: int = 1,
    meaning: str = "",
) -> Callable[[P], P]:
    """Say what a proxy looks at, and what its number means (:class:`ProxyTraits`); a decorator."""
    return with_traits(ProxyTraits(hooks, images, precision, version, meaning))


def meaning_of(name: str, proxy: Proxy) -> str:
    """Return what a proxy's number means, in words: its own, else how its docstring begins."""
    said = traits_of(proxy).meaning or (inspect.getdoc(proxy) or "").partition("\n\n")[0]
    return " ".join(said.split()) or f"'{name}' does not say what its number means; more is better."


def traits_of(proxy: Proxy) -> ProxyTraits:
    """Return what a proxy says of itself."""
    return registry.traits_of(proxy, ProxyTraits("not stated"))
