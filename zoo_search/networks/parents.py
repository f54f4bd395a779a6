"""The models that blocks are taken from, as reassembled networks see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch

from zoo_search.data.preprocess import Preprocess
from zoo_search.linegraph.graph import LineGraph
from zoo_search.zoo.models import ZooModel

Models: TypeAlias = "Mapping[str, LineGraph | ZooModel | Parent]"
"""Models by name: of a zoo, or their line graphs alone."""


@dataclass(frozen=True, eq=False)
class Parent:
    """What a reassembled network needs of a zoo model, and nothing else."""

    graph: LineGraph
    transform: Preprocess | None = None  # how it wants its images; None: as they are
    license: str | None = None  # of its weights, where it is known


class Parents(Mapping[str, Parent]):
    """The parents by name; a model is traced when it is first asked for."""

    def __init__(self, models: Models) -> None:
        self._models: Models = models._models if isinstance(models, Parents) else models

    def __getitem__(self, name: str) -> Parent:
        model = self._models[name]
        if isinstance(model, Parent):
            return model
        if isinstance(model, LineGraph):
            return Parent(model)
        return Parent(model.graph, model.transform, model.license)

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


def device_of(graph: LineGraph) -> torch.device:
    """Return the device that a line graph's parameters are on."""
    parameters = (p for node in graph for p in node.module.parameters())
    first = next(parameters, None)
    return torch.device("cpu") if first is None else first.device
