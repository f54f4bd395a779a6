"""Tasks over Ray Train: one trainer for all of them, watched from here.

A trainer of Ray takes 45 s of CPU to start (Ray 2.60), so that there is one for the whole step, and
not one for each network. These are processes that each import Ray Train, Ray Data and pandas: the
controller, the workers, one for a barrier of the workers, and two that :func:`lean_trainer` leaves
out.
"""

from __future__ import annotations

import os
import queue
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from zoo_search import cluster
from zoo_search.config import FinetuneConfig
from zoo_search.core.errors import UserError
from zoo_search.core.progress import Bar, console, progress
from zoo_search.core.store import RunStore
from zoo_search.finetune.advance import Terms
from zoo_search.finetune.checkpoints import FOLDER as CHECKPOINTS
from zoo_search.finetune.lanes.layout import Layout, lay_out, share_out
from zoo_search.finetune.lanes.worker import Lanes, run_lane
from zoo_search.finetune.tasks import TrainingTask
from zoo_search.finetune.trained import Failure, failure_of, folder_of, forget_failures, is_finished

_MOST_FAILURES, _MOST_FAILURES_LOCAL = 20, 3
_STORAGE = "finetune/ray"
_QUICK = {
    # The end of a worker waits for the controller's next look at it; its default is every 2 s.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
}
# An elastic training that has lost a node asks for as many workers as before, since the cluster
# hears of the loss later than the other workers do; it asks anew after this time.
_QUICK_ELASTIC = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30"}
_set: dict[str, str] = {}  # variables, and what was put there by us and not by a user
# These watch, or measure, for what only a cluster has, at a price for each trainer.
_QUICK_LOCAL = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0", "RAY_TRAIN_METRICS_ENABLED": "0"}
# The first of these serves data sets that Ray Train shares out, and there are none; the other
# removes a placement group when the controller dies before it, and a local Ray ends then, too.
_HELPERS = ("DatasetsCallback",)
_HELPERS_LOCAL = (*_HELPERS, "PlacementGroupCleanerCallback")


def train_all(
    tasks: Sequence[TrainingTask],
    store: RunStore,
    config: FinetuneConfig,
    run: str,
) -> dict[str, Failure]:
    """Bring every task of a run to its end; what it gave lies in the run directory then.

    Returns:
        Why a training diverged, by the key of its task: the others went on.

    Raises:
        UserError: If something else has to be mended before a task can end, or nothing happens for
            long (:class:`zoo_search.core.timeout.Timeout`).
    """
    forget_failures(store)
    todo = [task for task in tasks if not is_finished(store, task.key)]
    if not todo:
        return {}
    found = cluster.connect()
    local = found.address == "local"
    # By all tasks, so that those that are left after a kill are trained as they would have been.
    batch = min(task.schedule.batch_size for task in tasks)
    streams = any(task.streams for task in tasks)
    layout = lay_out(found, len(tasks), config, batch=batch, streams=streams)
    layout = layout.narrowed(len(todo))
    elastic = layout.width is None
    _set_unless_user(
        {**_QUICK, **(_QUICK_LOCAL if local else {}), **(_QUICK_ELASTIC if elastic else {})}
    )
    pulse = cluster.pulse()
    lanes = Lanes(
        share_out(todo, layout.lanes), layout.width, Terms.of(layout, store, config, run, pulse)
    )
    trainer = lean_trainer(_HELPERS_LOCAL if local else _HELPERS)
    ended: queue.Queue[Exception | None] = queue.Queue()
    made = trainer(run_lane, train_loop_config=lanes, **_settings(layout, store, local))
    # A thread, since a trainer blocks; a daemon, so that Ctrl-C ends the command at once.
    threading.Thread(target=_fit, args=(made, ended), daemon=True).start()
    with progress("fine-tuning", len(todo), work=sum(task.macs for task in todo)) as bar:
        return _watch(list(todo), store, ended, bar, cluster.Listener(pulse).news)


def _set_unless_user(values: dict[str, str]) -> None:
    """Set variables of Ray Train that the user has not set."""
    for name, value in values.items():
        if os.environ.get(name) == _set.get(name):
            os.environ[name] = _set[name] = value


def _watch(
    waiting: list[TrainingTask],
    store: RunStore,
    ended: queue.Queue[Exception | None],
    bar: Bar,
    news: Callable[[], cluster.News | None],
) -> dict[str, Failure]:
    """Report finished tasks until the trainer has ended; return those that diverged.

    A new checkpoint is progress, too, and so are ``news`` of steps.
    """
    limit, running = cluster.Timeout("fine-tuning"), True
    kept: list[list[str]] = []
    told: list[str] = []
    while True:
        for task in [task for task in waiting if store.exists(folder_of(task.key))]:
            waiting.remove(task)
            limit.progress()
            bar.advance(1, note=task.name, work=task.macs, name=task.name)
        found = [store.list(f"{CHECKPOINTS}/{task.key}") for task in waiting]
        if found != kept:
            kept = found
            limit.progress()
        heard = news()
        if heard is not None:
            limit.progress()
            for line in heard.told[len(told) :]:
                console.print(f"  {line}")
            told = list(heard.told)
            for task in waiting:
                if task.name in heard.shares:
                    bar.under_way(task.name, heard.shares[task.name] * task.macs)
        # Looked at after the tasks: the last network is reported before the end.
        if not running:
            break
        try:
            error = ended.get(timeout=1.0)
        except queue.Empty:
            limit.check()
            continue
        running = False
        if error is not None:
            raise error
    failures = {task.key: (task, failure_of(store, task.key)) for task in waiting}
    for task, failure in failures.values():
        if failure is None:
            own = [line for line in told if line.startswith(f"{task.name}: ")]
            raise UserError([f"{task.name} was not fine-tuned, and nothing says why.", *own][-1])
        if not failure.diverged:
            raise UserError(f"{task.name}: {failure.reason}")
    return {key: failure for key, (_, failure) in failures.items() if failure is not None}


def _fit(trainer: Any, ended: queue.Queue[Exception | None]) -> None:
    """Run the trainer to its end and say what went wrong, if anything did."""
    try:
        trainer.fit()
        ended.put(None)
    except Exception as error:
        ended.put(error)


def lean_trainer(without: tuple[str, ...]) -> Any:
    """Return Ray's trainer for torch without some of its callbacks; each is a process to start.

    Names that this version of Ray does not have are ignored.
    """
    from ray.train.torch import TorchTrainer

    class LeanTrainer(TorchTrainer):
        def _create_default_callbacks(self) -> list[object]:
            callbacks = super()._create_default_callbacks()  # type: ignore[misc]
            return [callback for callback in callbacks if type(callback).__name__ not in without]

    return LeanTrainer


def _settings(layout: Layout, store: RunStore, local: bool) -> dict[str, object]:
    """Return what a trainer is made with."""
    import ray.train
    from ray.train.torch import TorchConfig

    # Ray's stubs are those of its older API.
    run_config: Any = ray.train.RunConfig
    scaling_config: Any = ray.train.ScalingConfig
    storage: dict[str, object] = {"storage_path": store.path(_STORAGE)}
    if not store.is_local:
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        storage = {
            "storage_path": store.fs._strip_protocol(store.path(_STORAGE)),
            "storage_filesystem": PyFileSystem(FSSpecHandler(store.fs)),
        }
    gpus = {"GPU": layout.gpus} if layout.gpus else {}
    fixed = layout.least == layout.most
    # NCCL takes one process a GPU, and single workers have nothing to say to each other.
    nccl = layout.gpus >= 1 and layout.width != 1
    return {
        "torch_config": TorchConfig(backend="nccl" if nccl else "gloo"),
        "scaling_config": scaling_config(
            num_workers=layout.most if fixed else (layout.least, layout.most),
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": layout.reserved, **gpus},
        ),
        "run_config": run_config(
            name=f"lanes-{uuid.uuid4().hex[:12]}",
            failure_config=ray.train.FailureConfig(
                max_failures=_MOST_FAILURES_LOCAL if local else _MOST_FAILURES
            ),
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
            **storage,
        ),
    }
