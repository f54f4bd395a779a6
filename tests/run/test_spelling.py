"""How a path is spelled puts no step out of date; what lies there does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from zoo_search.config.section import as_spelled
from zoo_search.core.identity import fingerprint
from zoo_search.run import pipeline
from zoo_search.run.run import Run
from zoo_search.run.steps import STEPS


def weights(path: Path, seed: int) -> None:
    path.parent.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    save_file(timm.create_model("resnet10t", num_classes=3).state_dict(), path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    weights(tmp_path / "w/a.safetensors", 0)
    return tmp_path


def job_of(folder: Path, place: str) -> str:
    entry = {"arch": "resnet10t", "kwargs": {"num_classes": 3}, "weights": place}
    text: dict[str, Any] = {
        "name": "a", "dataset": "digits", "input_size": 32, "zoo": {"m": entry},
        "finetune": {"plain": {"p": entry}},
    }  # fmt: skip
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(text), encoding="utf-8")
    return str(path)


def zoo_step(job: str) -> str:
    """What a run says of its first step."""
    told: list[str] = []
    pipeline.run(job, until="zoo", directory="run", say=told.append)
    return told[-1]


def test_a_step_stays_whatever_the_spelling(folder: Path) -> None:
    assert "made in" in zoo_step(job_of(folder, "w/a.safetensors"))
    before = (folder / "run/zoo.json").read_bytes()
    (folder / "v").symlink_to(folder / "w")
    for place in ("./w/a.safetensors", str(folder / "w/a.safetensors"), "v/a.safetensors"):
        assert zoo_step(job_of(folder, place)) == "zoo: up to date, skipped"
    (folder / "w").rename(folder / "moved")
    assert zoo_step(job_of(folder, "moved/a.safetensors")) == "zoo: up to date, skipped"
    assert (folder / "run/zoo.json").read_bytes() == before
    weights(folder / "moved/a.safetensors", 1)
    assert "made in" in zoo_step(job_of(folder, "moved/a.safetensors"))


def test_a_run_of_an_earlier_version_stays(folder: Path) -> None:
    """Its identities held the text of the run file."""
    job = job_of(folder, "./w/a.safetensors")
    zoo_step(job)
    run = Run.open(job, "run")
    spec = run.job.zoo["m"].identity() | {"weights": "./w/a.safetensors"}
    was = run.zoo_identity
    was["m"] = {**was["m"], "spec": spec}  # type: ignore[dict-item]
    made_from = fingerprint({"step": "zoo", "version": STEPS["zoo"].version, "from": was})
    run.store.record("zoo", made_from, ["zoo.json"], seconds=1)
    assert zoo_step(job) == "zoo: up to date, skipped"
    assert "made in" in zoo_step(job_of(folder, "w/a.safetensors"))  # as it was then


def test_weights_of_a_plain_model_count_by_their_bytes(folder: Path) -> None:
    run = Run.open(job_of(folder, "w/a.safetensors"), "run")

    def identity(run: Run) -> object:
        for step in ("similarity", "partition", "reassemble"):
            run.store.record(step, "x", [], seconds=1)
        return fingerprint(STEPS["finetune"].inputs(run))

    first = identity(run)
    assert identity(Run.open(job_of(folder, "./w/a.safetensors"), "run")) == first
    with as_spelled():
        spelled = identity(run)
    weights(folder / "w/a.safetensors", 1)
    assert identity(run) != first
    with as_spelled():
        assert identity(run) == spelled
