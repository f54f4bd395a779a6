"""What the networks of a run said of its test images, and how good that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zoo_search.finetune.entries import Result
from zoo_search.finetune.trained import PREDICTIONS, column_of, read_predictions
from zoo_search.training.metrics import Floats, Ints, Metric, confusion, differences, score

if TYPE_CHECKING:
    from zoo_search.core.store import RunStore


@dataclass(frozen=True, eq=False)
class Answers:
    """Classes that networks gave to the test images that could be decoded for all of them.

    Attributes:
        labels: int64 ``[images]``.
        said: For each network, by name, int64 ``[trainings, images]``. One without
            ``predictions.parquet`` (of an earlier version) is missing.
    """

    labels: Ints
    said: Mapping[str, Ints]

    @property
    def right(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Which images each training of each network got right, ``[trainings, images]``."""
        return {name: np.equal(classes, self.labels) for name, classes in self.said.items()}

    def confusion(self, name: str, classes: int) -> Ints:
        """Return how often a network took each class (row) for each (column), of all trainings."""
        trainings = self.said[name]
        return confusion(np.tile(self.labels, len(trainings)), trainings.ravel(), classes)

    def score(self, name: str, metric: Metric) -> float:
        """Return a metric of a network: mean over its trainings."""
        values = [score(metric, confusion(self.labels, one)) for one in self.said[name]]
        return float(np.mean(values))

    def differences(self, metric: Metric, ours: str, theirs: str) -> Floats:
        """Return what each image has in by how much one network is ahead, ``[trainings, images]``.

        Their first trainings, as many as both have, are pairs
        (:func:`~zoo_search.training.metrics.differences`).
        """
        pairs = zip(self.said[ours], self.said[theirs], strict=False)  # the first seeds are alike
        return np.stack([differences(metric, self.labels, a, b) for a, b in pairs])


def answers_of(store: RunStore, results: Sequence[Result]) -> Answers:
    """Read what each training of each network said of the test images."""
    labels, said = np.empty(0, dtype=np.int64), {}
    for result in results:
        if result.folder is None or not store.exists(f"{result.folder}/{PREDICTIONS}"):
            continue
        table = read_predictions(store, result.folder)
        labels = table.column("label").to_numpy().astype(np.int64)
        told = [table.column(column_of(training.seed)).to_numpy() for training in result.told]
        said[result.name] = np.stack(told).astype(np.int64)
    if not said:
        return Answers(labels, {})
    there = (np.concatenate(list(said.values())) >= 0).all(axis=0)
    return Answers(labels[there], {name: classes[:, there] for name, classes in said.items()})


def right_of(store: RunStore, results: Sequence[Result]) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which test images each training of each network got right, ``[trainings, images]``."""
    return answers_of(store, results).right
