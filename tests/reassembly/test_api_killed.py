"""SIGKILL to the driver of a search on Ray, in the middle; the same command goes on."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

DRIVER = """
import sys
from pathlib import Path

import timm
import torch
from torch import nn

from zoo_search import cluster as engine
from zoo_search.linegraph import trace
from zoo_search.costs import Budget, CostTable
from zoo_search.networks.parents import Parent
from zoo_search.partitions.result import Partition, PartitionBlock
from zoo_search.reassembly import Space
from zoo_search.reassembly.api import run_search
from zoo_search.reassembly.journal import StudyPlace
from zoo_search.reassembly.scoring import Scoring, ScoringTask

torch.set_num_threads(1)
torch.manual_seed(0)
zoo, blocks = {}, []
for name, arch in (("a", "mobilenetv3_small_050"), ("b", "resnet10t"), ("c", "regnetx_002")):
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
space = Space(partition, CostTable(zoo, 4), Budget())
scoring = Scoring(fit_images=32, batches=2, batch_size=16, seed=2)
task = ScoringTask(zoo, images, torch.arange(64) % 4, 4, scoring)
sampler, workers, journal = sys.argv[1:]
engine.connect("local", num_cpus=2)
place = StudyPlace(Path(journal), "x")
found = run_search(space, task, 40, sampler, place, workers=int(workers))
assert all(c.state == "complete" for c in found.candidates)
"""


def start(folder: Path, journal: Path, sampler: str, workers: int) -> subprocess.Popen[bytes]:
    """Start the search with a HOME and a Ray of its own."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    script = folder / "driver.py"
    script.write_text(DRIVER, encoding="utf-8")
    options = {"HOME": str(home), "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    return subprocess.Popen(
        [sys.executable, str(script), sampler, str(workers), str(journal)],
        env=os.environ | options, cwd=folder,
        stdout=subprocess.DEVNULL, stderr=(folder / "stderr").open("ab"),
    )  # fmt: skip


def scored(journal: Path) -> list[dict[str, Any]]:
    """Read the trials of a journal as anybody with Optuna does."""
    if not journal.exists():
        return []
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(journal))
    )
    if not optuna.get_all_study_names(storage):
        return []
    trials = optuna.load_study(study_name="zoo-search", storage=storage).get_trials()
    return [
        {
            "recipe": json.loads(t.user_attrs["recipe"]),
            "score": t.values[0],
            "state": t.state.name,
        }
        for t in trials
    ]


def end(pids: list[int]) -> None:
    """End processes by id: those that a killed driver left behind."""
    left = []
    for pid in pids:
        try:
            left.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(left, timeout=15)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=15)


def kill_in_the_middle(folder: Path, journal: Path, sampler: str, workers: int) -> int:
    """Kill the driver when it has some of its candidates; return how many."""
    driver = start(folder, journal, sampler, workers)
    deadline = time.monotonic() + 600
    try:
        while len(scored(journal)) < 12:
            assert driver.poll() is None, (folder / "stderr").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        family = [p.pid for p in psutil.Process(driver.pid).children(recursive=True)]
        driver.send_signal(signal.SIGKILL)
        driver.wait(30)
        end(family)
    return len(scored(journal))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_search_goes_on_after_its_driver_was_killed(tmp_path: Path) -> None:
    """What two workers had in hand is scored once, as in a search that nobody disturbed."""
    calm, found = undisturbed_and_killed(tmp_path, "random", 2)
    scores = {json.dumps(t["recipe"]): t["score"] for t in calm}
    assert {json.dumps(t["recipe"]): t["score"] for t in found} == scores


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_one_worker_is_asked_in_the_same_order(tmp_path: Path) -> None:
    calm, found = undisturbed_and_killed(tmp_path, "cpsat", 1)
    assert found == calm


def undisturbed_and_killed(
    folder: Path, sampler: str, workers: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the trials of a search, and of one that was killed in the middle and went on."""
    calm, journal = folder / "calm.journal", folder / "broken.journal"
    driver = start(folder, calm, sampler, workers)
    assert driver.wait(600) == 0, (folder / "stderr").read_text()
    undisturbed = scored(calm)
    assert len(undisturbed) == 43  # three zoo models on top
    before = kill_in_the_middle(folder, journal, sampler, workers)
    assert 12 <= before < 43
    kept = scored(journal)
    driver = start(folder, journal, sampler, workers)
    assert driver.wait(600) == 0, (folder / "stderr").read_text()
    found = scored(journal)
    assert found[:before] == kept  # nothing lost, nothing changed
    assert {t["state"] for t in found} == {"COMPLETE"}  # nothing stuck
    assert len({json.dumps(t["recipe"]) for t in found}) == len(found) == 43  # nothing twice
    return undisturbed, found
