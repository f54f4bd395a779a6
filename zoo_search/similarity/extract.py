"""Models over batches on Ray actors: every pair of a stale model and a batch is one call.

An actor keeps one model at a time and prefers batches of the model that it has. A call may be
repeated, so an actor that dies costs its own calls only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zoo_search.errors import UserError
from zoo_search.similarity.gather import ImageBatch

if TYPE_CHECKING:
    import pyarrow as pa

    from zoo_search.linegraph.graph import LineGraph

__all__ = ["Pool", "Settings"]

_IN_FLIGHT = 2
_SILENCE = 1800.0
_RESTARTS = 3


@dataclass(frozen=True)
class Settings:
    """What an actor needs to know besides model and images."""

    metric: str
    pooling: str
    prefix: str
    precision: str


class GramActor:
    """Turns batches of images into the Gram vectors of every cut of a model."""

    def __init__(self, settings: Settings, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._settings = settings
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._name: str | None = None
        self._model: tuple[Any, Any] | None = None

    def embed(
        self,
        name: str,
        model: Sequence[Any],
        batch: int,
        ids: list[str],
        images: npt.NDArray[np.uint8],
    ) -> pa.Table:
        """Return the rows of the Gram file of one model and batch."""
        import torch

        from zoo_search.similarity import grams
        from zoo_search.similarity.estimators import get_metric
        from zoo_search.similarity.features import embed_cuts, evaluating

        graph, transform = self._load(name, model[0])
        settings = self._settings

        def prepare(rows: slice) -> torch.Tensor:
            pixels = torch.tensor(images[rows]).to(self._device)
            normalised: torch.Tensor = transform.normalize(pixels)
            return normalised

        with evaluating(graph):
            embedded = embed_cuts(
                graph,
                prepare,
                ids,
                get_metric(settings.metric),
                pooling=settings.pooling,
                prefix=settings.prefix,
                precision=settings.precision,
                name=name,
            )
        return grams.to_arrow(batch, ids, embedded)

    def _load(self, name: str, reference: Any) -> tuple[Any, Any]:
        """Return line graph and transform; the model before is let go first."""
        import ray

        if self._model is None or self._name != name:
            self._model = None
            graph, transform = ray.get(reference)
            for node in graph.nodes:
                node.module.to(self._device)
            self._name, self._model = name, (graph, transform)
        return self._model


@dataclass
class _Worker:
    actor: Any
    model: str | None = None
    calls: deque[tuple[Any, str, int]] = field(default_factory=deque)


class Pool:
    """Actors that work off models over batches.

    Args:
        settings: The same for every call.
        models: Models that will come, which limits the number of actors.
    """

    def __init__(self, settings: Settings, models: int) -> None:
        import ray

        from zoo_search import engine

        have = engine.resources()
        count = max(1, min(models, have.gpus or have.cpus))
        share = (have.cpus - 1) / count
        make = ray.remote(GramActor).options(
            # Ray takes shares of a CPU below 1 only; one CPU is left to those who decode.
            num_cpus=int(share) if share >= 1 else int(share * 100) / 100,
            num_gpus=1 if have.gpus else 0,
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
        )
        threads = engine.threads_per_worker(count)
        self._workers = [_Worker(make.remote(settings, threads)) for _ in range(count)]

    def run(
        self,
        models: Mapping[str, tuple[LineGraph, Any]],
        batches: Sequence[ImageBatch],
    ) -> Iterator[tuple[str, int, pa.Table]]:
        """Yield ``(model, batch, rows)`` as they come, in no fixed order.

        Args:
            models: Name to line graph and transform.
            batches: The images that each of these models sees.

        Raises:
            UserError: If a model gives a NaN or infinite feature, or nothing comes for long.
        """
        import ray

        todo = {name: deque(batches) for name in models}
        sent: dict[str, Any] = {}
        while True:
            for worker in self._workers:
                while len(worker.calls) < _IN_FLIGHT and (name := _next_model(todo, worker)):
                    if name not in sent:
                        sent[name] = ray.put(models[name])
                    self._send(worker, name, todo[name].popleft(), sent[name])
            heads = {worker.calls[0][0]: worker for worker in self._workers if worker.calls}
            if not heads:
                return
            done, _ = ray.wait(list(heads), num_returns=1, timeout=_SILENCE)
            if not done:
                raise UserError(
                    f"The Ray cluster gave no Gram matrix for {_SILENCE:.0f} s. Look at 'ray "
                    "status' for nodes that died or resources that never come, then run the same "
                    "command again: finished models are kept."
                )
            _, name, batch = heads[done[0]].calls.popleft()
            yield name, batch, ray.get(done[0])
            if not todo[name] and not any(c[1] == name for w in self._workers for c in w.calls):
                sent.pop(name, None)

    def close(self) -> None:
        """End the actors."""
        import ray

        for worker in self._workers:
            ray.kill(worker.actor)
        self._workers = []

    def _send(self, worker: _Worker, name: str, batch: ImageBatch, model: Any) -> None:
        # Inside a list, the model's reference is not resolved for calls that need no loading.
        call = worker.actor.embed.remote(name, [model], batch.index, batch.ids, batch.images)
        worker.calls.append((call, name, batch.index))
        worker.model = name


def _next_model(todo: dict[str, deque[ImageBatch]], worker: _Worker) -> str | None:
    """Return the model to go on with: the worker's own, else the one with most left to do."""
    left = {name: len(batches) for name, batches in todo.items() if batches}
    if worker.model in left:
        return worker.model
    return max(left, key=lambda name: left[name], default=None)
