"""What each node of a cluster does, asked of its dashboard."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from zoo_search.cluster.jobs.server import as_given, ask, told
from zoo_search.core.errors import UserError, first_line
from zoo_search.core.tables import Table, number, text

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient
    from ray.util.state.common import ActorState

_SECONDS = 20  # that each answer may take
_MOST = 10_000  # actors that are listed; Ray gives no more
_USED = re.compile(r"([\d.]+)/([\d.]+) (CPU|GPU)$", re.MULTILINE)


@dataclass(frozen=True)
class NodeUse:
    """What a node does."""

    node: str
    """Its address, and whether it is the head."""
    alive: bool
    cpus: str
    """That tasks and actors have, of those that Ray shares out: ``1/2``."""
    gpus: str
    """Likewise."""
    cpu_percent: float | None
    """How busy its processors are, whoever uses them."""
    memory_gb: str
    """In use, of all."""
    gpu_percent: str
    """How busy each of its GPUs is."""
    actors: str
    """Of the run: how many of each class; empty: none, or the run was not named."""


def nodes_of(client: JobSubmissionClient, address: str, job: str | None) -> list[NodeUse]:
    """Return what each node does; ``job`` is what Ray calls the run among its drivers.

    Raises:
        UserError: If the dashboard does not answer in time, or asks for a token.
    """
    from ray.util.state import list_actors, list_nodes
    from ray.util.state.exception import RayStateApiException

    def actors() -> list[ActorState]:
        filters: list[tuple[str, str, str | bool | int | float]]
        filters = [("state", "=", "ALIVE"), ("job_id", "=", str(job))]
        return list_actors(
            address, filters, limit=_MOST, timeout=_SECONDS, raise_on_missing_output=False
        )

    try:
        with told(address), as_given():
            nodes = ask(
                lambda: list_nodes(
                    address, limit=_MOST, timeout=_SECONDS, raise_on_missing_output=False
                )
            )
            working = [] if job is None else ask(actors)
            measured, shared = ask(lambda: _measured(client))
    except (RayStateApiException, ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise UserError(
            f"The dashboard at {address} does not tell what its nodes do ({first_line(error)}). "
            "Look at the cluster, then give the same command again; without --address the run "
            "directory alone is read."
        ) from None
    doing: dict[str, Counter[str]] = {}
    for actor in working:
        if actor.node_id is not None:
            doing.setdefault(actor.node_id, Counter())[actor.class_name.rpartition(".")[2]] += 1
    return [
        _use(node, measured.get(node.node_id, {}), shared.get(node.node_id, ""), doing)
        for node in sorted(nodes, key=lambda node: (not node.is_head_node, node.node_ip))
    ]


def _measured(client: JobSubmissionClient) -> tuple[dict[str, Any], Mapping[str, str]]:
    """Return what the dashboard measures on each node, and what Ray has shared out there."""
    answer = client._do_request("GET", "/nodes?view=summary", timeout=_SECONDS)
    data = answer.json()["data"]
    return {each["raylet"].get("nodeId", ""): each for each in data.get("summary", ())}, data.get(
        "nodeLogicalResources", {}
    )


def _use(
    node: Any, measured: Mapping[str, Any], shared: str, doing: Mapping[str, Counter[str]]
) -> NodeUse:
    used = {kind: f"{float(part):g}/{float(all_):g}" for part, all_, kind in _USED.findall(shared)}
    total = {kind: f"?/{node.resources_total.get(kind, 0):g}" for kind in ("CPU", "GPU")}
    mem = list(measured.get("mem") or ())
    gpus: list[float | None] = [gpu.get("utilizationGpu") for gpu in measured.get("gpus") or ()]
    counts = doing.get(node.node_id, Counter())
    return NodeUse(
        f"{node.node_ip} (head)" if node.is_head_node else str(node.node_ip),
        node.state == "ALIVE",
        used.get("CPU", total["CPU"]),
        used.get("GPU", total["GPU"]),
        measured.get("cpu"),
        f"{(mem[0] - mem[1]) / 1e9:.1f}/{mem[0] / 1e9:.1f}" if len(mem) > 1 else "–",
        ", ".join("?" if each is None else f"{each:g}" for each in gpus) or "–",
        ", ".join(f"{count} {name}" for name, count in counts.most_common()),
    )


def nodes_table(nodes: list[NodeUse], address: str) -> Table:
    """Return one row a node."""
    columns = (
        text("node"), text("alive"), text("cpus", "CPUs"), text("gpus", "GPUs"),
        number("cpu_percent", "CPU %"), text("memory_gb", "memory (GB)"),
        text("gpu_percent", "GPU %"), text("actors", "actors of the run"),
    )  # fmt: skip
    return Table(f"nodes at {address}", columns, [asdict(node) for node in nodes])
