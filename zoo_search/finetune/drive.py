"""Tasks over Ray Train: one trainer a lane, all lanes at once, watched from here."""

from __future__ import annotations

import hashlib
import math
import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo_search import engine
from zoo_search.errors import UserError
from zoo_search.finetune.lane import Task, folder_of, run_lane
from zoo_search.progress import Bar, progress
from zoo_search.store import RunStore

__all__ = ["share_out", "train_all"]

_MOST_FAILURES = 3
_MOST_CPUS = 8
_STORAGE = "finetune/ray"
_QUICK = {
    # A report waits for the controller's next look at the worker; its default is every 2 s.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
}
# These watch for what only a cluster has, at the price of a process for each trainer.
_QUICK_LOCAL = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}


@dataclass(frozen=True)
class _Ended:
    """What a lane's thread says when it ends."""

    message: str | None = None
    error: BaseException | None = None


def share_out(tasks: Sequence[Task], lanes: int) -> list[list[Task]]:
    """Share tasks out over at most ``lanes`` lanes: largest first, each to the emptiest lane."""
    parts: list[list[Task]] = [[] for _ in range(min(lanes, len(tasks)))]
    for task in sorted(tasks, key=lambda task: (-task.macs, task.key)):
        min(parts, key=lambda part: sum(t.macs for t in part)).append(task)
    return parts


def train_all(tasks: Sequence[Task], store: RunStore) -> None:
    """Bring every task to its end; what it gave lies in the run directory then.

    Raises:
        UserError: If a training cannot go on, a lane's workers fail too often, or nothing happens
            for long (:class:`zoo_search.engine.Patience`).
    """
    if not tasks:
        return
    found = engine.connect()
    for name, value in {**_QUICK, **(_QUICK_LOCAL if found.address == "local" else {})}.items():
        os.environ.setdefault(name, value)
    lanes = share_out(tasks, found.gpus or found.cpus)
    todo = [lane for lane in lanes if any(not store.exists(folder_of(t.key)) for t in lane)]
    cpus = _cpus(found, len(lanes))
    ended: queue.Queue[_Ended] = queue.Queue()
    for lane in todo:
        # Threads, since a trainer blocks; daemons, so that Ctrl-C ends the command at once.
        arguments = (lane, store, cpus, found.gpus > 0, ended)
        threading.Thread(target=_fit, args=arguments, daemon=True).start()
    with progress("fine-tuning", len(tasks)) as bar:
        _watch(list(tasks), todo, store, ended, bar)


def _watch(
    waiting: list[Task],
    lanes: Sequence[Sequence[Task]],
    store: RunStore,
    ended: queue.Queue[_Ended],
    bar: Bar,
) -> None:
    """Report finished tasks until every lane has ended; a new checkpoint is progress, too."""
    patience, running = engine.Patience("fine-tuning"), len(lanes)
    kept: list[list[str]] = []
    while True:
        for task in [task for task in waiting if store.exists(folder_of(task.key))]:
            waiting.remove(task)
            patience.progress()
            bar.advance(1, note=task.name)
        found = [store.list(f"{_STORAGE}/{_name(lane)}") for lane in lanes]
        if found != kept:
            kept = found
            patience.progress()
        if not running:
            break
        try:
            lane = ended.get(timeout=1.0)
        except queue.Empty:
            patience.check()
            continue
        patience.progress()
        running -= 1
        if lane.message is not None:
            raise UserError(lane.message)
        if lane.error is not None:
            raise lane.error
    if waiting:
        raise RuntimeError(f"Not fine-tuned: {', '.join(task.name for task in waiting)}.")


def _fit(
    lane: Sequence[Task], store: RunStore, cpus: int, gpu: bool, ended: queue.Queue[_Ended]
) -> None:
    """Run one trainer to its end and say how it went."""
    try:
        ended.put(_Ended(message=_trainer(lane, store, cpus, gpu).fit().return_value))
    except Exception as error:
        ended.put(_Ended(error=error))


def _name(lane: Sequence[Task]) -> str:
    """Return the name of a lane's folder: a lane of the same tasks goes on from its checkpoint."""
    return f"lane-{hashlib.sha256(' '.join(task.key for task in lane).encode()).hexdigest()[:16]}"


def _trainer(lane: Sequence[Task], store: RunStore, cpus: int, gpu: bool) -> Any:
    import ray.train
    from ray.train.torch import TorchTrainer

    # Ray's stubs are those of its older API.
    trainer: Any = TorchTrainer
    run_config: Any = ray.train.RunConfig

    storage: dict[str, Any] = {"storage_path": store.path(_STORAGE)}
    if not store.is_local:
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        storage = {
            "storage_path": store.fs._strip_protocol(store.path(_STORAGE)),
            "storage_filesystem": PyFileSystem(FSSpecHandler(store.fs)),
        }
    return trainer(
        run_lane,
        train_loop_config={"tasks": list(lane), "store": store.url, "threads": cpus},
        scaling_config=ray.train.ScalingConfig(
            num_workers=1,
            use_gpu=gpu,
            resources_per_worker={"CPU": cpus, **({"GPU": 1} if gpu else {})},
        ),
        run_config=run_config(
            name=_name(lane),
            failure_config=ray.train.FailureConfig(max_failures=_MOST_FAILURES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
            **storage,
        ),
    )


def _cpus(found: engine.Resources, lanes: int) -> int:
    """Return the CPUs of a lane, so that all lanes fit on the nodes at once."""
    on_a_node = math.ceil(lanes / found.nodes)
    return max(1, min(_MOST_CPUS, found.cpus // found.nodes // on_a_node))
