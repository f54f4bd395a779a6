"""A question to every node of the cluster that was joined."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from zoo_search.cluster.waiting import gather

T = TypeVar("T")


def ask_nodes(question: Callable[..., T], *arguments: object, timeout: float = 60) -> dict[str, T]:
    """Call a function on every live node, once on each; return what it gave, by the node's name.

    Arguments may be references to objects. A name is an address with the beginning of Ray's id.

    Raises:
        UserError: If a node makes no progress within ``timeout`` seconds.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [n for n in ray.nodes() if n["Alive"]]  # type: ignore[no-untyped-call]
    names = [f"{n['NodeManagerAddress']} ({n['NodeID'][:6]})" for n in nodes]
    ask = ray.remote(num_cpus=0)(question)
    where = [NodeAffinitySchedulingStrategy(n["NodeID"], soft=False) for n in nodes]
    refs = [ask.options(scheduling_strategy=there).remote(*arguments) for there in where]
    return dict(zip(names, gather(refs, timeout=timeout), strict=True))
