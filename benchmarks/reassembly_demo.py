"""The demo's zoo and images for the parts of ``reassembly.py``, cut into stages of equal depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from zoo_search.config import JobConfig, load_job
from zoo_search.data import open_dataset
from zoo_search.data.base import VisionDataset
from zoo_search.reassembly import Budget, CostTable, Space
from zoo_search.reassembly.scoring import Task, scoring_zoo
from zoo_search.reassembly.target import load_target
from zoo_search.zoo import Zoo, load_zoo


@dataclass(frozen=True)
class Demo:
    """A run file, its zoo and images, and how candidates are scored."""

    job: JobConfig
    zoo: Zoo
    dataset: VisionDataset
    task: Task

    def space(self, k: int, budget: Budget | None = None) -> Space:
        """Return one block a stage from any model, within a budget (default: the run file's)."""
        costs = CostTable(self.zoo, len(self.dataset.classes))
        limits = Budget.of(self.job.budget) if budget is None else budget
        return Space(stages(self.zoo, k), costs, limits)


def load_demo(path: Path, proxies: tuple[str, ...] = ("naswot",), batches: int = 5) -> Demo:
    """Load the zoo and the training images of a run file."""
    job = load_job(path)
    zoo, dataset = load_zoo(job), open_dataset(job.dataset, job.seed)
    size, fit = job.search.batch_size, job.search.fit_images
    subset = dataset.select("train", seed=job.seed)
    images, labels = load_target(subset, zoo, max(fit, 4 * batches * size))
    task = Task(
        scoring_zoo(zoo), images, labels, len(dataset.classes), proxies, "least_squares",
        fit, batches, size, job.seed,
    )  # fmt: skip
    return Demo(job, zoo, dataset, task)


def stages(zoo: Mapping[str, Any], k: int) -> Any:
    """Return a partition of every model into K stages of equal depth; stage s is set s."""
    blocks = []
    for name, model in zoo.items():
        nodes = len(model.graph)
        cuts = [round(nodes * stage / k) for stage in range(k + 1)]
        for stage in range(k):
            place = {"start": cuts[stage], "stop": cuts[stage + 1], "stage": stage, "set": stage}
            blocks.append(SimpleNamespace(model=name, **place))
    return SimpleNamespace(k=k, blocks=blocks)
