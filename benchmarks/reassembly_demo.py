"""The demo's zoo and images for the parts of ``reassembly.py``, cut into stages of equal depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo_search.config import JobConfig, load_job
from zoo_search.costs import Budget, CostTable
from zoo_search.data import open_dataset
from zoo_search.data.base import VisionDataset
from zoo_search.networks.parents import Parents
from zoo_search.networks.target_images import load_target
from zoo_search.partitions.result import Partition, PartitionBlock
from zoo_search.reassembly import Space
from zoo_search.reassembly.costing import budget_of
from zoo_search.reassembly.proxies import find_proxies
from zoo_search.reassembly.scoring import Scoring, ScoringTask
from zoo_search.zoo import Zoo, ZooModel, load_zoo


@dataclass(frozen=True)
class Demo:
    """A run file, its zoo and images, and how candidates are scored."""

    job: JobConfig
    zoo: Zoo
    dataset: VisionDataset
    task: ScoringTask

    def space(self, k: int, budget: Budget | None = None) -> Space:
        """Return one block a stage from any model, within a budget (default: the run file's)."""
        costs = CostTable(self.zoo, len(self.dataset.classes))
        limits = budget_of(self.job.budget) if budget is None else budget
        return Space(stages(self.zoo, k), costs, limits)


def load_demo(path: Path, proxies: tuple[str, ...] = ("naswot",), batches: int = 5) -> Demo:
    """Load the zoo and the training images of a run file."""
    return demo_of(load_job(path), proxies, batches)


def demo_of(job: JobConfig, proxies: tuple[str, ...] = ("naswot",), batches: int = 5) -> Demo:
    """Load the zoo and the training images of a job."""
    zoo, dataset = load_zoo(job), open_dataset(job.dataset, job.seed)
    size, fit = job.search.batch_size, job.search.fit_images
    scoring = Scoring(find_proxies(proxies), "least_squares", fit, batches, size, job.seed)
    subset = dataset.select("train", seed=job.seed)
    images, labels = load_target(subset, zoo, max(fit, scoring.batch_images))
    task = ScoringTask(dict(Parents(zoo)), images, labels, len(dataset.classes), scoring)
    return Demo(job, zoo, dataset, task)


def stages(zoo: Mapping[str, ZooModel], k: int) -> Partition:
    """Return a partition of every model into K stages of equal depth; stage s is set s."""
    blocks = []
    for name, model in zoo.items():
        nodes = len(model.graph)
        cuts = [round(nodes * stage / k) for stage in range(k + 1)]
        blocks += [PartitionBlock(name, cuts[s], cuts[s + 1], s, s, 1.0) for s in range(k)]
    return Partition(k, 0.2, "nodes", "exact", 0.0, None, (), tuple(blocks), ())
