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
from types import SimpleNamespace

import timm
import torch
from torch import nn

from zoo_search import engine
from zoo_search.linegraph import trace
from zoo_search.reassembly import Budget, CostTable, Space
from zoo_search.reassembly.scoring import Task, scoring_zoo
from zoo_search.reassembly.search import run_search

torch.set_num_threads(1)
torch.manual_seed(0)
zoo, blocks = {}, []
for name, arch in (("a", "mobilenetv3_small_050"), ("b", "resnet10t"), ("c", "regnetx_002")):
    module = timm.create_model(arch, num_classes=7).eval()
    zoo[name] = SimpleNamespace(module=module, graph=trace(module, (3, 64, 64), name))
    cuts = [round(len(zoo[name].graph) * i / 4) for i in range(5)]
    blocks += [
        SimpleNamespace(model=name, start=cuts[s], stop=cuts[s + 1], stage=s, set=s)
        for s in range(4)
    ]
generator = torch.Generator().manual_seed(1)
coarse = torch.rand(64, 3, 8, 8, generator=generator)
images = (nn.functional.interpolate(coarse, size=64, mode="bilinear") * 255).to(torch.uint8)
space = Space(SimpleNamespace(k=4, blocks=blocks), CostTable(zoo, 4), Budget())
task = Task(scoring_zoo(zoo), images, torch.arange(64) % 4, 4, fit_images=32, batches=2,
            batch_size=16, seed=2)
sampler, workers, journal = sys.argv[1:]
engine.connect("local", num_cpus=2)
found = run_search(space, task, 40, sampler, Path(journal), workers=int(workers), made_from="x")
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
    deadline = time.monotonic() + 240
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
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("sampler", "workers"), [("random", 2), ("cpsat", 1)])
def test_a_search_goes_on_after_its_driver_was_killed(tmp_path: Path, sampler: str, workers: int):
    calm, broken = tmp_path / "calm.journal", tmp_path / "broken.journal"
    driver = start(tmp_path, calm, sampler, workers)
    assert driver.wait(300) == 0, (tmp_path / "stderr").read_text()
    undisturbed = scored(calm)
    assert len(undisturbed) == 43  # three zoo models on top

    before = kill_in_the_middle(tmp_path, broken, sampler, workers)
    assert 12 <= before < 43
    kept = scored(broken)
    driver = start(tmp_path, broken, sampler, workers)
    assert driver.wait(300) == 0, (tmp_path / "stderr").read_text()

    found = scored(broken)
    assert found[:before] == kept  # nothing lost, nothing changed
    assert {t["state"] for t in found} == {"COMPLETE"}  # nothing stuck
    scores = {json.dumps(t["recipe"]): t["score"] for t in found}
    assert len(scores) == len(found) == 43  # nothing twice
    assert scores == {json.dumps(t["recipe"]): t["score"] for t in undisturbed}
    if workers == 1:
        assert found == undisturbed  # in the same order, too
