"""Training-free scores of a network on the target data, by name; more is better."""

from zoo_search.reassembly.proxies.batches import Batches
from zoo_search.reassembly.proxies.registry import (
    PROXIES,
    Proxy,
    ProxyTraits,
    find_proxies,
    meaning_of,
    proxy_traits,
    register_proxy,
    score,
    traits_of,
)

__all__ = [
    "PROXIES",
    "Batches",
    "Proxy",
    "ProxyTraits",
    "find_proxies",
    "meaning_of",
    "proxy_traits",
    "register_proxy",
    "score",
    "traits_of",
]
