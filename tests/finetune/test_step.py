"""The step through a real Ray Train, and a lane that is interrupted."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import zoo_search as zs
from zoo_search import engine
from zoo_search.config import load_job
from zoo_search.data import VisionDataset, open_dataset
from zoo_search.errors import UserError
from zoo_search.finetune import drive, step
from zoo_search.finetune.checkpoint import Begun, read_begun, write_begun
from zoo_search.finetune.drive import share_out
from zoo_search.finetune.entry import Entry
from zoo_search.finetune.lane import Task, tune
from zoo_search.finetune.recipes import RECIPES
from zoo_search.finetune.train import accuracy
from zoo_search.progress import progress
from zoo_search.reassembly.recipe import Recipe
from zoo_search.store import RunStore
from zoo_search.zoo import Zoo, load_zoo

SIZE = 32


@dataclass(frozen=True)
class Setting:
    job: Any
    zoo: Zoo
    dataset: VisionDataset


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    import timm
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(5)
    entries = {}
    for name, arch in {"a": "resnet10t", "b": "mobilenetv3_small_050"}.items():
        weights = folder / f"{name}.safetensors"
        save_file(timm.create_model(arch, pretrained=False).state_dict(), weights)
        entries[name] = {"arch": arch, "weights": str(weights)}
    job = load_job(
        {
            "name": "x",
            "input_size": SIZE,
            "zoo": entries,
            "dataset": {"name": "digits", "per_class": 5},
            "finetune": {"epochs": 2},
        }
    )
    return Setting(job, load_zoo(job), open_dataset(job.dataset, job.seed))


def recipe(*blocks: tuple[str, int, int]) -> Recipe:
    items = [{"model": model, "start": start, "stop": stop} for model, start, stop in blocks]
    return Recipe.from_any({"blocks": items})


MIXED = recipe(("a", 0, 2), ("b", 4, 8))


def test_entries_become_winners(setting: Setting, tmp_path: Path, ray_cluster: None) -> None:
    store = RunStore(tmp_path / "run")
    single = Recipe.whole("b", len(setting.zoo["b"].graph))
    entries = [
        Entry("first", "reassembly", MIXED, {"naswot": 2.0}),
        Entry("single", "single", single, {"naswot": 1.0}),
        Entry("again", "random", MIXED, {}),
    ]
    results = step.run(entries, setting.zoo, setting.dataset, setting.job, store)
    written = store.read_json("winners.json")
    assert written["results"] == json.loads(json.dumps([r.to_dict() for r in results]))
    assert (written["train_images"], written["test_images"]) == (50, 1747)
    assert [r.folder for r in results] == ["winners/0", "winners/1", "winners/2"]
    assert results[0].protocols == results[2].protocols  # trained once
    again = step.run(entries, setting.zoo, setting.dataset, setting.job, store)
    assert [r.protocols for r in again] == [
        r.protocols for r in results
    ]  # nothing is trained again
    for result in results:
        assert list(result.protocols) == ["frozen", "full"]
        assert [p["epoch"] for p in result.protocols["full"]["curve"]] == [1, 2]
        assert result.protocols["full"]["trainable_params"] == result.params
        assert result.protocols["frozen"]["trainable_params"] < result.params

    # The figures are those of the exported network, measured here without Ray.
    net = zs.load(tmp_path / "run" / "winners" / "0")
    transform = net.transform
    test = setting.dataset.select("test", seed=setting.job.seed)
    images = test.load(transform.size, transform.interpolation, transform.crop_pct)
    found = accuracy(net, images.images, images.labels, transform)
    assert found == pytest.approx(results[0].protocols["full"]["test_accuracy"], abs=0.002)


def make_task(setting: Setting, macs: int = 1, key: str = "k") -> Task:
    quick = replace(RECIPES["few-shot"], epochs_frozen=2, epochs_full=2)
    return Task(
        key=key,
        name="net",
        net=None,
        train=None,
        test=None,
        transform=setting.zoo["a"].transform,
        recipe=quick,
        protocols=("frozen", "full"),
        num_classes=10,
        seed=0,
        macs=macs,
    )


def test_an_interrupted_task_ends_as_if_it_had_not_been(setting: Setting, tmp_path: Path) -> None:
    part = setting.dataset.select("train").load((SIZE, SIZE))
    data = (part.images, part.labels)
    begun: list[Begun] = []

    def make() -> nn.Module:
        return zs.assemble(MIXED, setting.zoo, init="random", num_classes=10, seed=1)

    task = make_task(setting)
    whole = tune(task, make(), data, data, None, lambda point, protocol, say: begun.append(say()))
    assert [b.protocol for b in begun] == ["frozen", "frozen", "full", "full"]
    for number in (0, 1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_begun(folder, begun[number])
        again = tune(task, make(), data, data, read_begun(folder), lambda *_: None)
        assert all(torch.equal(value, again.state[key]) for key, value in whole.state.items())
        for protocol, record in whole.protocols.items():
            other = again.protocols[protocol]
            assert other["test_accuracy"] == record["test_accuracy"]
            losses = [p["train_loss"] for p in record["curve"]]
            assert [p["train_loss"] for p in other["curve"]] == losses


def test_tasks_are_shared_out_evenly(setting: Setting) -> None:
    tasks = [make_task(setting, macs, str(macs)) for macs in (9, 7, 6, 5, 5)]
    lanes = share_out(tasks, 2)
    assert sorted(sum(t.macs for t in lane) for lane in lanes) == [14, 18]
    assert sorted(t.key for lane in lanes for t in lane) == sorted(t.key for t in tasks)
    assert len(share_out(tasks[:1], 4)) == 1


def test_checkpoints_are_progress_and_silence_ends_the_wait(
    setting: Setting, tmp_path: Path
) -> None:
    """A lane that never ends: it writes a checkpoint now and then, for a while."""
    store, task = RunStore(tmp_path), make_task(setting)
    ended: queue.Queue[Any] = queue.Queue()
    begun = time.monotonic()

    def write() -> None:
        (lane,) = lanes
        for number in range(5):
            time.sleep(0.8)
            (tmp_path / "finetune" / "ray" / drive._name(lane) / f"checkpoint_{number}").mkdir(
                parents=True
            )

    lanes = [[task]]
    writer = threading.Thread(target=write)
    writer.start()
    engine.set_patience(2.0)
    try:
        with (
            progress("fine-tuning", 1) as bar,
            pytest.raises(UserError, match=r"waiting for fine-tuning: .*no progress for 2 s"),
        ):
            drive._watch([task], lanes, store, ended, bar)
    finally:
        engine.set_patience(engine.PATIENCE)
    writer.join()
    assert time.monotonic() - begun > 5


EPOCHS = 200  # long enough for a checkpoint, which comes every ten seconds


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_worker_is_replaced(setting: Setting, tmp_path: Path, ray_cluster: None) -> None:
    """SIGKILL to the training process after its first checkpoint: another one ends the same way."""
    import ray._private.state

    job = setting.job.model_copy(
        update={"finetune": setting.job.finetune.model_copy(update={"epochs": EPOCHS})}
    )
    entry = Entry("net", "reassembly", MIXED, {})
    calm, store = RunStore(tmp_path / "calm"), RunStore(tmp_path / "run")
    (expected,) = step.run([entry], setting.zoo, setting.dataset, job, calm)
    killed: list[int] = []

    def kill() -> None:
        while not any(
            name.startswith("checkpoint")
            for lane in store.list("finetune/ray")
            for name in store.list(f"finetune/ray/{lane}")
        ):
            time.sleep(0.1)
        for actor in ray._private.state.actors().values():
            if actor["ActorClassName"] == "RayTrainWorker" and actor["State"] == "ALIVE":
                os.kill(actor["Pid"], signal.SIGKILL)
                killed.append(actor["Pid"])

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    (result,) = step.run([entry], setting.zoo, setting.dataset, job, store)
    assert len(killed) == 1
    for protocol in ("frozen", "full"):
        ours, theirs = result.protocols[protocol], expected.protocols[protocol]
        assert [point["epoch"] for point in ours["curve"]] == list(range(1, EPOCHS + 1))
        assert [p["train_loss"] for p in ours["curve"]] == [
            p["train_loss"] for p in theirs["curve"]
        ]
        assert ours["test_accuracy"] == theirs["test_accuracy"]
    assert zs.load(tmp_path / "run" / "winners" / "0").recipe == MIXED
