"""One actor: images of a batch to the Gram part of a model. It keeps one model at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

    from zoo_search.linegraph.graph import LineGraph
    from zoo_search.similarity.grams import Header

__all__ = ["CHUNK", "GramActor", "Normaliser", "Settings", "Speed"]

CHUNK = 64
"""Images that go through a model at once, where memory holds them."""
_PROBE = 4


class Normaliser(Protocol):
    """What an actor needs of a model's preprocessing."""

    def normalize(self, images: Tensor) -> Tensor:
        """Return float32 ``[B, 3, H, W]`` from uint8 images of the right size."""


@dataclass(frozen=True)
class Settings:
    """What an actor needs to know besides model and images.

    Attributes:
        metric: Name of the estimator.
        pooling: ``avg`` or ``none``.
        prefix: ``mean`` or ``cls``.
        precision: ``fp32`` or ``bf16``, of the forward pass.
        gram_dtype: ``float16`` or ``float32``, of what is stored.
        compile: Whether nodes are compiled.
    """

    metric: str
    pooling: str = "avg"
    prefix: str = "mean"
    precision: str = "fp32"
    gram_dtype: str = "float16"
    compile: bool = False


@dataclass(frozen=True)
class Speed:
    """What a model takes on an actor's device, measured: seconds an image, seconds a batch more."""

    image: float
    batch: float


class GramActor:
    """Turns batches of images into the Gram vectors of every cut of a model."""

    def __init__(self, settings: Settings, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._settings = settings
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model: tuple[LineGraph, Normaliser] | None = None
        self._chunk: dict[str, int] = {}

    def pid(self) -> int:
        """Return the process that this actor runs in."""
        return os.getpid()

    def embed(
        self,
        name: str,
        made_from: str,
        model: Sequence[Any],
        batch: int,
        ids: list[str],
        images: npt.NDArray[np.uint8],
    ) -> tuple[Header, bytes]:
        """Return the Gram part of one model and batch, with its header.

        Args:
            name: The model's name.
            made_from: Hash for the part's header.
            model: A list of one reference to line graph and transform: inside a list it is not
                resolved for calls that need no loading.
            batch: Index of the batch.
            ids: Its samples.
            images: uint8 ``[n, 3, H, W]``.
        """
        self._load(name, model[0])
        return self.part(made_from, batch, ids, images)

    def part(
        self, made_from: str, batch: int, ids: list[str], images: npt.NDArray[np.uint8]
    ) -> tuple[Header, bytes]:
        """Return the Gram part of the model that is held on one batch, with its header."""
        from zoo_search.similarity import grams
        from zoo_search.similarity.backoff import with_fewer_images
        from zoo_search.similarity.features import evaluating

        graph, transform = self._held()
        name = graph.name
        with evaluating(graph):
            embedded, self._chunk[name] = with_fewer_images(
                lambda size: self._embed(graph, transform, ids, images, size),
                self._chunk.get(name) or self._most(len(ids)),
            )
        return grams.encode(name, made_from, batch, ids, embedded, self._settings.gram_dtype)

    def hold(self, name: str, graph: LineGraph, transform: Normaliser) -> None:
        """Take a model onto the device; its modules move there themselves."""
        import torch

        nodes = []
        for node in graph.nodes:
            module = node.module.to(self._device)
            if self._device.type == "cuda":
                module = module.to(memory_format=torch.channels_last)
            nodes.append(replace(node, module=self._compiled(module)))
        self._model = replace(graph, nodes=tuple(nodes), name=name), transform

    def probe(self, name: str, model: Sequence[Any], samples: int) -> Speed:
        """Measure a model on a few blank images, and the estimator on a batch of noise."""
        import torch

        from zoo_search.similarity.estimators import get_metric
        from zoo_search.similarity.features import evaluating

        self._load(name, model[0])
        graph, transform = self._held()
        count = min(samples, CHUNK if self._device.type == "cuda" else _PROBE)
        images = np.zeros((count, *graph.input_size), dtype=np.uint8)
        size = sorted(cut.channels for cut in graph.cuts)[len(graph.cuts) // 2]
        noise = torch.randn(samples, size, device=self._device)
        metric = get_metric(self._settings.metric)
        with evaluating(graph):
            forward = _second_time(lambda: self._forward(graph, transform, images))
            embed = _second_time(lambda: metric.embed(noise).norms.cpu())
        return Speed(forward / count, embed * len(graph.cuts))

    def _forward(self, graph: LineGraph, transform: Normaliser, images: Any) -> None:
        import torch

        x = transform.normalize(torch.tensor(images).to(self._device))
        bf16 = self._settings.precision == "bf16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=bf16):
            graph.features(x).float().sum().cpu()

    def _embed(
        self,
        graph: LineGraph,
        transform: Normaliser,
        ids: list[str],
        images: npt.NDArray[np.uint8],
        chunk: int,
    ) -> Any:
        import torch

        from zoo_search.similarity.estimators import get_metric
        from zoo_search.similarity.features import embed_cuts

        settings = self._settings

        def prepare(rows: slice) -> torch.Tensor:
            return transform.normalize(torch.tensor(images[rows]).to(self._device))

        return embed_cuts(
            graph,
            prepare,
            ids,
            get_metric(settings.metric),
            pooling=settings.pooling,
            prefix=settings.prefix,
            precision=settings.precision,
            channels_last=self._device.type == "cuda",
            chunk=chunk,
            name=graph.name,
        )

    def _most(self, samples: int) -> int:
        """Return the images to try at once: full maps go whole, one cut after the other."""
        return CHUNK if self._settings.pooling == "avg" else samples

    def _load(self, name: str, reference: Any) -> None:
        """Take the model in, unless it is held; the model before is let go first."""
        import ray

        if self._model is None or self._model[0].name != name:
            self._model = None
            self.hold(name, *ray.get(reference))

    def _held(self) -> tuple[LineGraph, Normaliser]:
        if self._model is None:
            raise RuntimeError("the actor holds no model")
        return self._model

    def _compiled(self, module: Any) -> Any:
        import torch

        return torch.compile(module) if self._settings.compile else module


def _second_time(run: Any) -> float:
    """Return the seconds that the second call takes; the first one warms caches."""
    run()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
