"""A search on Ray as a process of its own, for the tests to kill."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import timm
import torch
from torch import nn

from zoo_search import cluster
from zoo_search.costs import Budget, CostTable
from zoo_search.linegraph import trace
from zoo_search.networks.parents import Parent
from zoo_search.partitions.result import Partition, PartitionBlock
from zoo_search.reassembly import Space
from zoo_search.reassembly.api import run_search
from zoo_search.reassembly.journal import StudyPlace
from zoo_search.reassembly.scoring import Scoring, ScoringTask

ARCHS = {"a": "mobilenetv3_small_050", "b": "resnet10t", "c": "regnetx_002"}


def prepare() -> tuple[Space, ScoringTask]:
    """Return a space of three models cut into four, and a target of noise to score on."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    zoo, blocks = {}, []
    for name, arch in ARCHS.items():
        module = timm.create_model(arch, num_classes=7).eval()
        zoo[name] = Parent(trace(module, (3, 64, 64), name))
        cuts = [round(len(zoo[name].graph) * i / 4) for i in range(5)]
        blocks += [
            PartitionBlock(name, cuts[s], cuts[s + 1], stage=s, set=s, similarity=1.0)
            for s in range(4)
        ]
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(64, 3, 8, 8, generator=generator)
    images = (nn.functional.interpolate(coarse, size=64, mode="bilinear") * 255).to(torch.uint8)
    partition = Partition(4, 0.2, "nodes", "exact", 0.0, None, (), tuple(blocks), ())
    scoring = Scoring(fit_images=32, batches=2, batch_size=16, seed=2)
    task = ScoringTask(zoo, images, torch.arange(64) % 4, 4, scoring)
    return Space(partition, CostTable(zoo, 4), Budget()), task


def find(sampler: str, workers: int, trials: int, journal: Path) -> None:
    """Search with the Ray that is connected."""
    space, task = prepare()
    found = run_search(space, task, trials, sampler, StudyPlace(journal, "x"), workers=workers)
    assert all(c.state == "complete" for c in found.candidates)


if __name__ == "__main__":
    # A shell starts what it puts in the background with this signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sampler, workers, trials, journal, address = sys.argv[1:]
    cluster.connect(address)
    find(sampler, int(workers), int(trials), Path(journal))
