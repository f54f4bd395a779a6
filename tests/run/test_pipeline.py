"""A whole small run with the real parts: real Ray, timm models, scikit-learn's digits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

import zoo_search as zs
from zoo_search.cli.app import app
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.finetune.entries import Winners
from zoo_search.report import ranking, summary
from zoo_search.run import pipeline
from zoo_search.run.run import Run
from zoo_search.run.steps import STEPS

sys.path.insert(0, str(Path(__file__).parent))

import damage

# A run takes a minute or two; what of it can be told from a step alone stands with the steps.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SIZE = 32
ARCHS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("resnet10t", {"num_classes": 10}),
    "vit": (
        "vit_tiny_patch16_224",
        {"img_size": SIZE, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 2,
         "num_classes": 10},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run file whose weights are files, one model without weights (DPIAT fills it)."""
    import timm

    folder = tmp_path_factory.mktemp("weights")
    zoo: dict[str, Any] = {}
    for name, (arch, kwargs) in ARCHS.items():
        torch.manual_seed(0)
        path = folder / f"{name}.safetensors"
        save_file(timm.create_model(arch, **kwargs).state_dict(), path)
        zoo[name] = {"arch": arch, "kwargs": kwargs, "weights": str(path)}
    zoo["grown"] = {"arch": "resnet14t", "kwargs": {"num_classes": 10}, "weights": None}
    return {
        "name": "small",
        "input_size": SIZE,
        "zoo": zoo,
        "dataset": {"name": "digits", "per_class": 8},
        "similarity": {"fraction": 1.0, "batch_size": 40},
        "partition": {"k": 2, "eps": 0.5, "restarts": 20},
        "budget": {"max_params": 12e6, "max_macs": 1e8, "measure": ["memory"]},
        "search": {"trials": 5, "sampler": "random", "fit_images": 40, "batches": 2,
                   "batch_size": 16},
        "finetune": {"winners": 1, "candidates": 2, "tries": 1, "finalists": 1, "epochs": 1,
                     "seeds": 2},
    }  # fmt: skip


def made(told: list[str]) -> list[str]:
    """The steps that a run said it has made, in order."""
    return [line.partition(":")[0] for line in told if ": made in " in line]


@pytest.fixture(scope="module")
def told() -> list[str]:
    """What the run of these tests said."""
    return []


@pytest.fixture(scope="module")
def done(
    job: dict[str, Any],
    told: list[str],
    ray_cluster: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    directory = str(tmp_path_factory.mktemp("run") / "small")
    return pipeline.run(job, directory=directory, say=told.append)


def test_every_step_leaves_its_artifacts(done: Any, told: list[str]) -> None:
    names = ["job.yaml", "zoo.json", "similarity.parquet", "partition.json", "candidates.parquet"]
    names += ["study.journal", "winners.json", "report.html", "winners/0/model.safetensors"]
    assert [name for name in names if not done.store.exists(name)] == []
    assert not done.store.exists("finetune")  # what a killed step would have gone on from
    assert made(told) == list(STEPS)


def test_every_candidate_keeps_to_the_budget_and_the_zoo_is_among_them(done: Any) -> None:
    rows = ranking(done.store).rows()
    assert {row["recipe"].split()[0] for row in rows if row["kind"] == "zoo"}
    assert {row["kind"] for row in rows} == {"zoo", "reassembly"}
    assert all(row["params"] <= 12e6 and row["macs"] <= 1e8 for row in rows)
    assert all(row["state"] == "complete" for row in rows)
    assert len({row["key"] for row in rows}) == len(rows)


def test_reports_of_hooks_are_kept_with_models_candidates_and_winners(done: Any) -> None:
    (grown,) = (row for row in done.store.read_json("zoo.json") if row["name"] == "grown")
    assert [(r["hook"], r["facts"]["source"]) for r in grown["init"]] == [("dpiat", "resnet")]
    for row in ranking(done.store).rows():
        (report,) = row["init"]
        assert (report["hook"], report["role"]) == ("least_squares", "candidate")
        assert len(report["facts"]["r2"]) == row["recipe"].count("+")
    for result in done.store.read_json("winners.json")["results"]:
        *parts, own = result["init"]
        assert own["facts"]["head"] is True
        models = {block["model"] for block in result["recipe"]["blocks"]}
        assert [part["name"] for part in parts] == ["grown"] * ("grown" in models)
    assert "least_squares, " in done.store.read_text("report.html")


def test_the_summary_names_winner_and_baselines(done: Any) -> None:
    told = summary(done.store)
    assert {row["role"] for row in told.table.rows} == {
        "reassembly",
        "single model",
        "random recipe",
    }
    assert Path(told.winner).is_dir()
    assert "best reassembly" in told.verdict


def test_the_command_line_on_a_finished_run_shows_what_won(
    done: Any, job: dict[str, Any], tmp_path: Path
) -> None:
    path, told = tmp_path / "job.yaml", summary(done.store)
    path.write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
    shown = subprocess.run(
        [sys.executable, "-m", "zoo_search", "run", str(path), "--dir", done.store.url,
         "--address", "local"],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    steps = [line for line in shown.stderr.splitlines() if line.split(":")[0] in STEPS]
    assert steps == [f"{step}: up to date, skipped" for step in STEPS]
    lines = shown.stdout.splitlines()
    best = next(row for row in told.table.rows if row["role"] == "reassembly")
    assert any(best["name"] in line and best["role"] in line for line in lines)
    assert told.verdict in shown.stdout
    for word, place in (("report", told.report), ("winner", told.winner)):
        assert f"{word}  {place}" in lines
        assert Path(str(place)).exists()


def test_the_ranking_is_the_same_as_json_in_the_file_and_in_the_report(
    done: Any, job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
    capsys.readouterr()
    app(["reassemble", str(path), "--dir", done.store.url, "--json"], standalone_mode=False)
    rows = json.loads(capsys.readouterr().out)
    assert rows == ranking(done.store).rows()
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    table = pq.read_table(Path(done.store.url) / "candidates.parquet").to_pylist()
    kept = {zs.Recipe.from_any(json.loads(row["recipe"])).key: row for row in table}
    best = sorted(kept, key=lambda key: (-kept[key]["probe"], kept[key]["id"]))
    assert [row["key"] for row in rows] == best
    for row in rows:
        own = kept[row["key"]]
        assert zs.Recipe.from_any({"blocks": row["blocks"]}).key == row["key"]
        assert {name: row[name] for name in ("params", "macs", "probe", "seconds")} == {
            name: own[name] for name in ("params", "macs", "probe", "seconds")
        }
    page = done.store.read_text("report.html")
    page = page[page.index('alt="Score against cost') :]
    places = [page.index(f"<code>{row['recipe']}</code>") for row in rows[:20]]
    assert places == sorted(places)


def test_the_test_split_is_never_used_for_search(
    job: dict[str, Any], ray_cluster: None, tmp_path: Path
) -> None:
    """Every test image is no image: whatever read one would fail, here or on a worker."""
    rng = np.random.default_rng(0)
    for label in ("ant", "bee"):
        for split in ("train", "test"):
            (tmp_path / split / label).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"train/{label}/{i}.png")
            (tmp_path / f"test/{label}/{i}.png").write_bytes(b"no image")
    small = job | {
        "zoo": {name: job["zoo"][name] for name in ARCHS},
        "dataset": {"name": "folder", "path": str(tmp_path), "max_bad": 0.0},
        "similarity": {"fraction": 1.0, "batch_size": 20, "workers": 1},
        "search": {**job["search"], "trials": 2, "workers": 1},
    }
    told: list[str] = []
    directory = str(tmp_path / "run")
    run = pipeline.run(small, until="reassemble", directory=directory, say=told.append)
    assert made(told) == ["zoo", "similarity", "partition", "reassemble"]
    rows = ranking(run.store).rows()
    assert rows
    assert {row["state"] for row in rows} == {"complete"}
    with pytest.raises(UserError, match=r"test/(ant|bee)/\d+\.png"):
        run.dataset.select("test").load((SIZE, SIZE))


def test_the_winner_loads_without_the_zoo_and_scores_what_was_reported(done: Any) -> None:
    told = next(r for r in done.store.read_json("winners.json")["results"] if r["folder"])
    net = zs.load(done.store.path(told["folder"]))
    fit = done.zoo[told["recipe"]["blocks"][0]["model"]].transform
    images = done.dataset.select("test").load(fit.view)
    right = 0
    with torch.no_grad():
        for part in range(0, len(images.ids), 256):
            x = fit.normalize(images.images[part : part + 256])
            right += int((net(x).argmax(1) == images.labels[part : part + 256]).sum())
    exported = told["trainings"][told["exported"]]
    accuracy = list(exported["protocols"].values())[-1]["test_accuracy"]
    said = pq.read_table(done.store.path(told["folder"]) + "/predictions.parquet")
    assert said.column("id").to_pylist() == done.dataset.select("test").ids
    labels = said.column("label").to_numpy()
    found = said.column(f"seed_{exported['seed']}").to_numpy()
    assert np.mean(found == labels) == pytest.approx(accuracy, abs=1e-12)
    assert right / len(images.ids) == pytest.approx(accuracy, abs=2e-3)


def test_every_winner_went_through_both_protocols(done: Any) -> None:
    winners = Winners.read(done.store)
    assert (winners.train_images, winners.validation_images, winners.test_images) == (64, 16, 1717)
    assert [r.folder for r in winners.results] == [f"winners/{i}" for i in range(3)]
    for result in winners.results:
        assert list(result.protocols) == ["frozen", "full"]
        assert [p.epoch for p in result.protocols["full"].curve] == [1]
        assert result.protocols["full"].trainable_params == result.params
        assert result.protocols["frozen"].trainable_params < result.params


def test_the_report_is_one_page_that_names_what_won(done: Any) -> None:
    page = done.store.read_text("report.html")
    assert summary(done.store).verdict in page
    assert page.count("data:image/svg+xml;base64,") == 8
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "memory (bytes)</th>" in page
    assert f">{ranking(done.store).rows()[0]['memory']:.4g}</td>" in page


def test_a_second_run_skips_everything_and_a_change_redoes_what_depends_on_it(
    done: Any, job: dict[str, Any]
) -> None:
    def again(job: dict[str, Any], until: str) -> list[str]:
        told: list[str] = []
        pipeline.run(job, directory=done.store.url, until=until, say=told.append)
        return made(told)

    assert again(job, "report") == []
    changed = job | {"partition": {**job["partition"], "eps": 0.6}}
    assert again(changed, "partition") == ["partition"]
    assert again(job, "partition") == ["partition"]


def test_no_damage_to_a_finished_run_passes_unseen(
    done: Any, job: dict[str, Any], tmp_path: Path
) -> None:
    """What a command takes from a damaged file is what was there, or it says that it is bad."""
    cases = 600
    shutil.copytree(done.store.url, tmp_path / "run")
    run = Run.open(job, str(tmp_path / "run"))
    reader, whole, said = damage.Reader(run), dict[Path, Any](), 0
    for file, data in damage.damages(tmp_path / "run", cases, seed=0):
        before = file.read_bytes()
        if file not in whole:
            whole[file] = reader.take(file)
            assert whole[file] != damage.SAID
        file.write_bytes(data)
        found = reader.take(file)
        file.write_bytes(before)
        said += found == damage.SAID
        assert found in (damage.SAID, whole[file]), (file, data[:200])
    assert said > cases * 5 / 6
    folder = tmp_path / "run/winners/0"
    whole_winner, all_of_it = damage.winner(folder), reader.taken_over("winners/0")
    assert all_of_it != damage.SAID
    for file, data in damage.damages(folder, cases // 10, seed=1):
        before = file.read_bytes()
        file.write_bytes(data)
        assert damage.winner(folder) in (damage.SAID, whole_winner), (file, data[:200])
        assert reader.taken_over("winners/0") in (damage.SAID, all_of_it), (file, data[:200])
        file.write_bytes(before)


def test_a_run_mends_what_was_damaged(done: Any, job: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(done.store.url, tmp_path / "run")
    names, told = ["zoo.json", "partition.json", "report.html"], list[str]()
    for file in (tmp_path / "run" / name for name in names):
        file.write_bytes(file.read_bytes()[:-3])
    (tmp_path / "run/job.yaml").write_bytes(b"\xff\xfe")
    pipeline.run(job, directory=str(tmp_path / "run"), say=told.append)
    assert made(told) == ["zoo", "partition", "report"]
    for name in ("partition.json", "job.yaml"):  # the others hold times
        assert (tmp_path / "run" / name).read_bytes() == done.store.read_bytes(name)


def test_every_score_in_the_run_directory_is_json_or_columns_and_no_pickle(done: Any) -> None:
    kinds = {path.suffix for path in Path(done.store.url).rglob("*") if path.is_file()}
    kinds -= {".zoo-search"}  # TensorBoard's events, in logs/
    assert kinds <= {".yaml", ".json", ".parquet", ".journal", ".safetensors", ".md", ".html"}


def test_a_killed_driver_loses_only_the_work_in_flight(
    job: dict[str, Any], done: Any, tmp_path: Path
) -> None:
    """``kill -9`` while networks race; the second run ends with the same numbers.

    The run directory is a URI, so that all of it goes through fsspec, as on an object store.
    """
    import ray

    path, folder = tmp_path / "job.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    shutil.copytree(done.store.url, folder)
    place = f"local://{folder}"
    store = RunStore(place)
    for name in ("winners.json", "winners", "race", "logs", "report.html"):  # as before that step
        store.remove(name)
    first = subprocess.Popen(
        [sys.executable, "-m", "zoo_search", "run", str(path), "--dir", place,
         "--address", ray.get_runtime_context().gcs_address],
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 600
    while len(legs := sorted(folder.glob("race/*/*.json"))) < 3:
        assert first.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not store.exists("winners.json")
    assert not store.exists("report.html")
    before = {leg: leg.stat().st_mtime_ns for leg in legs}
    told: list[str] = []
    pipeline.run(path, directory=place, say=told.append)
    assert made(told) == ["finetune", "report"]
    assert "reassemble: up to date, skipped" in told
    assert {leg: leg.stat().st_mtime_ns for leg in legs} == before
    again: list[str] = []
    pipeline.run(path, directory=place, say=again.append)
    assert again == [f"{step}: up to date, skipped" for step in STEPS]
    ours, theirs = (
        [
            (r["name"], t["protocols"]["full"]["test_accuracy"], t["protocols"]["full"]["kept"])
            for r in s.read_json("winners.json")["results"]
            for t in r["trainings"]
        ]
        for s in (store, done.store)
    )
    assert ours == theirs
    assert summary(store).verdict == summary(done.store).verdict
    assert json.loads((folder / "manifest.json").read_text())["format"] == 1
