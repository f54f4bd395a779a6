"""Every command takes the URI of a run directory, or of what lies in one, as it takes a path."""

from __future__ import annotations

import json
import shlex
import socket
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import timm
import torch
import typer
import yaml
from safetensors.torch import save_file

import zoo_search as zs
from zoo_search.cli.app import app
from zoo_search.core.store import RunStore
from zoo_search.networks.recipe import Recipe
from zoo_search.partitions.result import load_partitions
from zoo_search.similarities.table import SimilarityTable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ODD = "my runs/a%20b"  # neither decoded nor encoded on the way
ARCHS = ("resnet10t", "lcnet_050")

LINES = {
    "run": "run {job} --dir '{run}' --json",
    "similarity": "similarity {job} --dir '{run}' --png '{out}/heat.png'",
    "partition": "partition {job} --dir '{run}' --out '{out}/p.json' --png '{out}/sets.png'",
    "partition of a table": "partition --similarity '{run}/similarity.parquet' -k 2 -k 3 --eps 1 "
    "--restarts 3 --out '{out}/both.json' --png '{out}/both.png'",
    "reassemble": "reassemble {job} --dir '{run}' --json",
    "finetune": "finetune {job} --dir '{run}' --json",
    "report": "report {job} --dir '{run}' --json",
    "status": "status '{run}' --json",
    "status of a run file": "status {job} --dir '{run}' --check --json",
    "predict": "predict '{run}' '{images}' --out '{out}/said.parquet'",
    "predict of a winner": "predict '{run}/winners/0' '{images}' --json",
    "evaluate": "evaluate '{run}' --data {job} --picture '{out}/confusion.png'",
    "export": "export '{run}/winners/0' --torch",
    "export elsewhere": "export '{run}/winners/0' --torch --out '{out}/exported'",
    "transfer": "transfer '{run}/winners/0' lcnet_075 --out '{out}/w.safetensors' "
    "--png '{out}/matched.png'",
    "transfer of a file": "transfer '{out}/w.safetensors' '{run}/winners/0' "
    "--out '{out}/x.safetensors'",
    "transfer of weights": "transfer 'lcnet_075@{out}/w.safetensors' lcnet_050 "
    "--out '{out}/y.safetensors'",
    "dashboard": "dashboard '{run}' --port {port}",
    "data": "data pack '{images}' '{out}/pack'",
}
"""Command lines; a command of several words says first what it is."""
NO_PLACE = {"init", "rank", "submit", "jobs", "logs", "stop", "cluster", "doctor", "zoo"}
"""Commands that neither read nor write a run directory here."""
WRITTEN = (
    "heat.png", "p.json", "sets.png", "both.json", "both-k2.png", "both-k3.png",
    "said.parquet", "confusion.png",
    "exported/model.pt2", "w.safetensors", "matched.png", "x.safetensors", "y.safetensors",
    "pack/index.parquet",
)  # fmt: skip


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run file with paths that are relative to it, in a folder of its own."""
    folder = tmp_path_factory.mktemp("jobs of mine")
    for seed, arch in enumerate(ARCHS):
        torch.manual_seed(seed)
        save_file(timm.create_model(arch).state_dict(), folder / f"{arch}.safetensors")
    text = {
        "name": "small",
        "input_size": 32,
        "zoo": {arch: {"arch": arch, "weights": f"{arch}.safetensors"} for arch in ARCHS},
        "dataset": {"name": "digits", "per_class": 8},
        "similarity": {"fraction": 1.0, "batch_size": 40, "workers": 1},
        "partition": {"k": 2, "eps": 0.6, "restarts": 5},
        "budget": {"max_params": 12e6},
        "search": {"trials": 2, "sampler": "random", "fit_images": 40, "batches": 1,
                   "batch_size": 16, "workers": 1},
        "finetune": {"winners": 1, "candidates": 1, "tries": 1, "epochs": 1, "seeds": 1,
                     "finalists": 1, "protocol": "frozen", "baselines": "best_single"},
    }  # fmt: skip
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(text), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, job: Path, ray_cluster: None) -> Path:
    """A folder that holds a whole run, made at a ``file://`` URI."""
    place = tmp_path_factory.mktemp("places")
    app(shlex.split(f"run '{job}' --dir 'file://{place}/{ODD}'"), standalone_mode=False)
    return place


@pytest.fixture(params=["file", "memory"])
def base(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Iterator[str]:
    """The URI of a folder with a copy of the run, on a disk and on a store that is none."""
    if request.param == "file":
        fsspec.filesystem("file").put(f"{folder}/", f"{tmp_path}/", recursive=True)
        yield f"file://{tmp_path}"
        return
    fs, root = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    for path in (folder / ODD).rglob("*"):
        if path.is_file():
            fs.pipe_file(f"{root}/{path.relative_to(folder)}", path.read_bytes())
    fs.touch(f"{root}/{ODD}/winners/0/.whole")
    yield f"memory:/{root}"
    fs.rm(root, recursive=True)


def test_every_command_is_walked() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert {line.split()[0] for line in LINES.values()} == commands - NO_PLACE


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def served(line: list[str], port: int) -> str:
    """What the dashboard that a command serves says of its studies."""
    call: Callable[..., Any] = app
    threading.Thread(
        target=call, args=(line,), kwargs={"standalone_mode": False}, daemon=True
    ).start()
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=5) as page:
                return str(page.read().decode())
        except OSError:
            time.sleep(0.2)
    pytest.fail("the dashboard does not answer")


def test_every_command_takes_a_uri(
    base: str, job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    images = tmp_path / "pets"
    for name in ("cat/1.png", "dog/1.png"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(images / name)
    port = free_port()
    words = {"job": f"'{job}'", "run": f"{base}/{ODD}", "out": f"{base}/the out%20put",
             "images": images, "port": port}  # fmt: skip
    for name, line in LINES.items():
        arguments = shlex.split(line.format(**words))
        capsys.readouterr()
        if name == "dashboard":
            assert "zoo-search" in served(arguments, port)
            continue
        app(arguments, standalone_mode=False)
        told = capsys.readouterr()
        if name == "export":
            exported = told.out.strip()
            assert exported.endswith(f"{ODD}/exports/0/model.pt2")
        if "{job}" in line:
            assert "made in" not in told.err, name  # all was up to date
        if "--json" in line:
            assert json.loads(told.out)
    store = RunStore(f"{base}/the out%20put")
    assert [name for name in WRITTEN if not store.exists(name)] == []
    assert RunStore(words["run"]).exists("exports/0/model.pt2")
    assert [p.k for p in load_partitions(store.path("both.json"))] == [2, 3]


def test_python_takes_uris(base: str, folder: Path, tmp_path: Path) -> None:
    from zoo_search.export.folder import save_folder

    run = f"{base}/{ODD}"
    here, there = zs.load(folder / ODD / "winners/0"), zs.load(f"{run}/winners/0")
    image = torch.zeros(1, 3, 32, 32)
    assert torch.equal(here(image), there(image))
    assert Recipe.from_any(f"{run}/winners/0/recipe.yaml")
    assert SimilarityTable.load(f"{run}/similarity.parquet").models.keys() == set(ARCHS)
    assert load_partitions(f"{run}/partition.json")
    job = yaml.safe_load((folder / ODD / "job.yaml").read_text())
    zoo = zs.load_zoo(job)
    recipe = Recipe.from_any(f"{run}/winners/0/recipe.yaml")
    net = zs.assemble(f"{run}/winners/0/recipe.yaml", zoo, init="random", num_classes=10)
    classes = [str(i) for i in range(10)]
    save_folder(net, f"{base}/saved b%20c", recipe=recipe, zoo=zoo, classes=classes, metadata={})
    assert torch.equal(zs.load(f"{base}/saved b%20c")(image), net.eval()(image))
    save_folder(net, f"{base}/saved b%20c", recipe=recipe, zoo=zoo, classes=classes, metadata={})
    with pytest.raises(zs.UserError, match="is no exported network and holds"):
        save_folder(net, run, recipe=recipe, zoo=zoo, classes=classes, metadata={})
    nowhere = f"{base}/no where"
    with pytest.raises(zs.UserError, match="no where is no exported network"):
        zs.load(nowhere)
