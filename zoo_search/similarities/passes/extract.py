"""What a host does: images of a batch to the Gram file of a model. It keeps one model at a time."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from zoo_search.linegraph.graph import LineGraph
from zoo_search.similarities.estimators.features import cut_features, evaluating, images_at_once
from zoo_search.similarities.estimators.registry import Embedding, Metric
from zoo_search.similarities.passes import grams

if TYPE_CHECKING:
    from ray import ObjectRef

    from zoo_search.config import SimilarityConfig
    from zoo_search.data.preprocess import Preprocess
    from zoo_search.similarities.passes.grams import Header

T = TypeVar("T")
_NO_MEMORY = (
    "DefaultCPUAllocator",
    "not enough memory",
    "Cannot allocate memory",
    "could not create a primitive",  # oneDNN, which gives no other reason
    "could not create a memory",
)


@dataclass(frozen=True)
class ModelJob:
    """One model, what its Gram files are made from, and the batches that it lacks."""

    graph: LineGraph
    transform: Preprocess
    made_from: str
    missing: Collection[int]


class Extractor:
    """The role of a host: batches of images to the Gram vectors of every cut of a model.

    The metric is handed over, since the name of a user's own means nothing on a worker.
    """

    def __init__(self, config: SimilarityConfig, metric: Metric, threads: int) -> None:
        torch.set_num_threads(threads)
        self._config, self._metric = config, metric
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model: tuple[LineGraph, Preprocess] | None = None
        self._chunk: dict[str, int] = {}

    def __call__(
        self,
        model: Sequence[ObjectRef[tuple[LineGraph, Preprocess]]],
        name: str,
        made_from: str,
        batch: int,
        ids: list[str],
        images: npt.NDArray[np.uint8],
    ) -> tuple[Header, bytes]:
        """Return the Gram file of one model and batch of uint8 ``[n, 3, H, W]``, with its header.

        Where another model is held, line graph and transform are fetched: ``model`` is one
        reference to them.
        """
        import ray

        if self._model is None or self._model[0].name != name:
            self._model = None  # first: two models need not fit
            self.hold(name, *ray.get(model[0]))
        return self.gram_file(made_from, batch, ids, images)

    def gram_file(
        self, made_from: str, batch: int, ids: list[str], images: npt.NDArray[np.uint8]
    ) -> tuple[Header, bytes]:
        """Return the Gram file of the model that is held on one batch, with its header."""
        assert self._model is not None, "no model is held"
        graph, transform = self._model
        config = self._config

        def prepare(rows: slice) -> torch.Tensor:
            return transform.normalize(torch.tensor(images[rows]).to(self._device))

        def embed(chunk: int) -> list[Embedding]:
            features = cut_features(
                graph,
                prepare,
                ids,
                config.pool,
                config.prefix,
                config.precision,
                channels_last=self._device.type == "cuda",
                chunk=chunk,
            )
            return [self._metric.embed(x) for _, x in features]

        most = images_at_once(config.pool, len(ids))
        with evaluating(graph):
            embedded, fits = with_fewer_images(embed, self._chunk.get(graph.name, most))
        self._chunk[graph.name] = fits
        return grams.encode(graph.name, made_from, batch, ids, embedded, config.gram_dtype)

    def hold(self, name: str, graph: LineGraph, transform: Preprocess) -> None:
        """Take a model onto the device; its modules move there themselves."""
        nodes = []
        for node in graph.nodes:
            module = node.module.to(self._device)
            if self._device.type == "cuda":
                module = module.to(memory_format=torch.channels_last)
            if self._config.compile:
                module = torch.compile(module)  # type: ignore[assignment]  # a module it is
            nodes.append(replace(node, module=module))
        self._model = replace(graph, nodes=tuple(nodes), name=name), transform


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory, of the device or of the machine, ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(w in str(error) for w in _NO_MEMORY)


def with_fewer_images(run: Callable[[int], T], size: int) -> tuple[T, int]:
    """Return what ``run`` gives with ``size`` images at once, half where memory runs out, and on.

    The size that it gave it with comes with it. What ``run`` raises goes through if a single image
    does not fit, or it is no lack of memory.
    """
    while True:
        try:
            return run(size), size
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not out_of_memory(error):
                raise
        # Only here is the error gone, and with it the tensors that its frames hold.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size = max(1, size // 2)
