"""How the workers of a cluster are shared out: how many networks at once, and how many for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zoo_search.cluster import Resources
from zoo_search.config import FinetuneConfig
from zoo_search.core.errors import UserError
from zoo_search.finetune.tasks import TrainingTask

_MOST_CPUS = 8
"""A worker uses no more: small networks gain nothing from them."""
_LEAST_IMAGES = 8
"""Of a step that a worker has where the number of workers is not told."""


@dataclass(frozen=True)
class Layout:
    """Workers of a fine-tuning, and what each of them holds.

    Attributes:
        lanes: Networks that are trained at once.
        width: Workers that train one of them together; None: as many as there are, between
            ``least`` and ``most``, while the cluster grows and shrinks.
        least: Workers in all without which nothing begins.
        most: Workers in all.
        gpus: GPUs of a worker; below 1, several share one.
        threads: That a worker computes with.
        reserved: CPUs of Ray's account for a worker; the others decode images.
        decoders: Tasks that decode for a worker at once.
        task_cpus: CPUs of Ray's account that each of them holds.
    """

    lanes: int
    width: int | None
    least: int
    most: int
    gpus: float
    threads: int
    reserved: float
    decoders: float
    task_cpus: float

    def narrowed(self, tasks: int) -> Layout:
        """Return it with no more lanes than tasks, and all else as it is."""
        if self.width is None or tasks >= self.lanes:
            return self
        workers = tasks * self.width
        return replace(self, lanes=tasks, least=workers, most=workers)


def lay_out(
    found: Resources, tasks: int, config: FinetuneConfig, *, batch: int, streams: bool
) -> Layout:
    """Share out a cluster of like nodes for so many networks.

    Where there are GPUs, a worker has ``gpus_per_worker`` of one, and whole ones that are left when
    every network has a worker go to the networks alike, as long as a worker has some images of a
    step of ``batch``. Without GPUs a network has one worker if
    not told otherwise, and where images are streamed half of the CPUs decode them.

    Raises:
        UserError: If the cluster has not what the run file asks for.
    """
    gpus = config.gpus_per_worker if found.gpus else 0.0
    if config.sync_bn and not gpus:
        raise UserError(
            "finetune.sync_bn: batch norms are synchronised over workers with GPUs only, and the "
            f"cluster ({found.address}) has none. Leave it out."
        )
    # So many workers share a GPU; what is left of it is left.
    slots = found.gpus * int(1 / gpus + 1e-6) if gpus else found.cpus
    low, high = _asked(config, slots, tasks, gpus, batch)
    if low > slots:
        what = f"{gpus:g} GPUs" if gpus else "one CPU"
        raise UserError(
            f"finetune.workers: {low} workers of {what} each are more than the {slots} that the "
            f"cluster ({found.address}) has room for. Lower it, or add machines."
        )
    elastic, width = low < high, min(high, slots)
    room = slots if gpus or not streams else max(width, slots // 2)
    lanes = 1 if elastic else max(1, min(tasks, room // width))
    workers = lanes * width
    cpus, on_node = found.cpus / found.nodes, math.ceil(workers / found.nodes)
    share = cpus / 2 if streams else cpus
    # A worker of a GPU computes there: one CPU is enough for its own part.
    threads = 1 if gpus else max(1, min(_MOST_CPUS, int(share / on_node)))
    reserved, task_cpus = float(threads), 1.0
    if streams and cpus - on_node * reserved < 1:  # a node keeps a CPU for those that decode
        reserved, task_cpus = (cpus - 1) / on_node, 1.0
        if cpus < 2:
            reserved, task_cpus = cpus / 2 / on_node, cpus / 2
    left = (cpus - on_node * reserved) / task_cpus
    return Layout(
        lanes,
        None if elastic else width,
        low if elastic else workers,
        high if elastic else workers,
        gpus,
        threads,
        reserved,
        max(1.0, left / on_node),
        task_cpus,
    )


def _asked(
    config: FinetuneConfig, slots: int, tasks: int, gpus: float, batch: int
) -> tuple[int, int]:
    """Return the least and the most workers of a network."""
    if isinstance(config.workers, tuple):
        return config.workers
    if config.workers:
        return config.workers, config.workers
    workers = max(1, min(slots // tasks, batch // _LEAST_IMAGES)) if gpus == 1 else 1
    return workers, workers


def share_out(tasks: Sequence[TrainingTask], lanes: int) -> list[list[TrainingTask]]:
    """Share tasks out over so many lanes: largest first, each to the lane with least to do."""
    shares: list[list[TrainingTask]] = [[] for _ in range(lanes)]
    for task in sorted(tasks, key=lambda task: (-task.macs, task.key)):
        min(shares, key=lambda share: sum(t.macs for t in share)).append(task)
    return shares
