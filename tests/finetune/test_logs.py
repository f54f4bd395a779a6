"""Logs of fine-tuning: what TensorBoard, Weights & Biases and MLflow find of a training."""

from __future__ import annotations

import importlib
import json
import logging
import shutil
import struct
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import wandb
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from zoo_search.config import load_job
from zoo_search.config.sections import FinetuneConfig
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.finetune.logs import EpochLog, check_logs
from zoo_search.finetune.logs.events import events_folder
from zoo_search.finetune.preflight import check_networks

LONG = "x" * 9000
FACTS = {"schedule": "few-shot", "lr": 0.001, "long": LONG}
Points = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("WANDB_DIR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_ERROR_REPORTING", "WANDB_SILENT", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "false" if name.endswith("REPORTING") else "true")
    yield
    wandb.teardown()  # it looks at the variables once a process


@pytest.fixture
def local(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "run")


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Give what our own code has warned of."""
    return lambda: [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("zoo_search") and record.levelno == logging.WARNING
    ]


@pytest.fixture
def memory() -> Iterator[RunStore]:
    store = RunStore(f"memory://{uuid.uuid4().hex}")
    yield store
    store.remove("")


def opened(store: RunStore, *kinds: str, key: str = "k1", network: str = "net 1") -> EpochLog:
    return EpochLog(store, kinds, "pets", key, network, FACTS)


def losses(log: EpochLog, protocol: str, start: int, stop: int, base: float) -> None:
    for number in range(start, stop + 1):
        log.epoch(protocol, number, {"loss": base + number})


def curves(folder: Path) -> Points:
    """Read event files as TensorBoard does."""
    found = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(point.step, point.value) for point in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def fetched(store: RunStore, place: Path) -> Points:
    """Return the curves of "net 1" in a remote run directory."""
    place.mkdir()
    for name in store.list("logs/net+1"):
        (place / name).write_bytes(store.read_bytes(f"logs/net+1/{name}"))
    return curves(place)


def test_tensorboard_has_one_curve_a_network_with_steps_over_all_protocols(
    local: RunStore,
) -> None:
    with opened(local, network="a/b c") as log:
        losses(log, "frozen", 1, 2, base=10)
        assert curves(Path(local.path("logs/a%2Fb+c"))) == {"frozen/loss": [(1, 11), (2, 12)]}
        log.result("frozen", {"test_accuracy": 0.5})
        log.epoch("full", 1, {"loss": 3, "rate": 0.25})
    opened(local, network="other").close()
    assert local.list("logs") == ["a%2Fb+c", "other"]
    assert curves(Path(local.path("logs/a%2Fb+c"))) == {
        "frozen/loss": [(1, 11), (2, 12)],
        "frozen/test_accuracy": [(2, 0.5)],
        "full/loss": [(3, 3)],
        "full/rate": [(3, 0.25)],
    }


KILLED = """
import os, signal, sys
from zoo_search.core.store import RunStore
from zoo_search.finetune.logs import EpochLog
log = EpochLog(RunStore(sys.argv[1]), [], "pets", "k1", "net 1", {})
for number in (1, 2):
    log.epoch("frozen", number, {"loss": 10 + number})
log.result("frozen", {"test_accuracy": 0.5})
for number in (1, 2, 3):
    log.epoch("full", number, {"loss": number})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_no_epoch_shows_twice_and_what_is_finished_stays(local: RunStore) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, local.url], check=False, timeout=120)
    assert done.returncode == -9
    folder = Path(local.path(events_folder("net 1")))
    assert curves(folder)["full/loss"] == [(3, 1), (4, 2), (5, 3)]
    with opened(local) as log:
        losses(log, "full", 2, 4, base=100)
        log.result("full", {"test_accuracy": 0.75})
    assert curves(folder) == {
        "frozen/loss": [(1, 11), (2, 12)],
        "frozen/test_accuracy": [(2, 0.5)],
        "full/loss": [(3, 1), (4, 102), (5, 103), (6, 104)],
        "full/test_accuracy": [(6, 0.75)],
    }


def test_a_training_may_go_back_over_a_protocol_or_find_all_epochs_done(local: RunStore) -> None:
    with opened(local) as log:
        losses(log, "frozen", 1, 3, base=10)
        log.result("frozen", {"test_accuracy": 0.5})
        losses(log, "full", 1, 1, base=0)
    with opened(local) as log:  # the newest checkpoint was of the protocol before
        losses(log, "frozen", 3, 3, base=100)
        log.result("frozen", {"test_accuracy": 0.25})
        losses(log, "full", 1, 2, base=0)
    with opened(local) as log:
        log.result("full", {"test_accuracy": 0.75})
    opened(local).result("full", {"test_accuracy": 0.75})
    assert curves(Path(local.path(events_folder("net 1")))) == {
        "frozen/loss": [(1, 11), (2, 12), (3, 103)],
        "frozen/test_accuracy": [(3, 0.25)],
        "full/loss": [(4, 1), (5, 2)],
        "full/test_accuracy": [(5, 0.75)],
    }


def test_another_training_of_a_network_takes_the_place_of_its_curve(local: RunStore) -> None:
    with opened(local) as log:
        losses(log, "frozen", 1, 3, base=0)
    with opened(local, key="k2") as log:
        losses(log, "full", 1, 1, base=5)
    assert curves(Path(local.path(events_folder("net 1")))) == {"full/loss": [(1, 6)]}


def test_a_remote_run_directory_has_the_events_after_each_epoch(
    memory: RunStore, tmp_path: Path
) -> None:
    log = opened(memory)
    losses(log, "full", 1, 3, base=0)
    assert fetched(memory, tmp_path / "one") == {"full/loss": [(1, 1), (2, 2), (3, 3)]}
    with opened(memory) as log:
        losses(log, "full", 2, 3, base=10)
    assert fetched(memory, tmp_path / "two") == {"full/loss": [(1, 1), (2, 12), (3, 13)]}


def test_events_come_when_the_run_directory_can_be_written_again(
    memory: RunStore, tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    memory.write_bytes("logs", b"a file where a folder should be")
    with opened(memory) as log:
        losses(log, "full", 1, 2, base=0)
        assert len(said()) == 1
        memory.remove("logs")
        losses(log, "full", 3, 3, base=0)
    assert fetched(memory, tmp_path / "logs") == {"full/loss": [(1, 1), (2, 2), (3, 3)]}


@pytest.mark.parametrize("names", [["a b", "a+b", "a_b", "a/b", "a%2Fb", "A b"],
                                   ["wandb", "mlflow", ".", "..", "", "%77andb", "%", "w"],
                                   ["ü" * 300, "ü" * 301, "x" * 250]])  # fmt: skip
def test_folders_of_networks_are_safe_and_differ(names: list[str], tmp_path: Path) -> None:
    folders = [events_folder(name) for name in names]
    assert len({*folders, "logs/wandb", "logs/mlflow"}) == len(names) + 2
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert len(list((tmp_path / "logs").iterdir())) == len(names)


def wandb_records(file: Path) -> Iterator[Record]:
    """Read a .wandb file: seven bytes, then a log of LevelDB with a record an entry."""
    data, at, entry = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, size, part = struct.unpack("<IHB", data[at : at + 7])
        entry += data[at + 7 : at + 7 + size]
        at += 7 + size
        if part in (1, 4):  # whole, or the last part
            yield Record.FromString(entry)
            entry = b""


def wandb_run(file: Path) -> tuple[Any, dict[str, Any], list[dict[str, float]], dict[str, Any]]:
    """Return run, config, history and summary of a .wandb file."""
    run, config, history, summary = None, {}, [], {}
    for record in wandb_records(file):
        if record.HasField("run"):
            run = record.run
            config = {item.key: json.loads(item.value_json) for item in run.config.update}
        if record.HasField("history"):
            row = {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.history.item}
            history.append({name: row[name] for name in row if name[0] != "_" or name == "_step"})
        for item in record.summary.update:
            summary[item.key or item.nested_key[0]] = json.loads(item.value_json)
    return run, config, history, summary


def test_wandb_has_a_run_a_network_with_id_group_config_and_history(
    local: RunStore, capfd: pytest.CaptureFixture[str]
) -> None:
    def train() -> None:
        for network in ("net 1", "net 2"):
            with opened(local, "wandb", key=network[-1] * 8, network=network) as log:
                log.epoch("frozen", 1, {"loss": 1})
                log.epoch("frozen", 2, {"loss": 0.5})
                log.result("frozen", {"test_accuracy": 0.5})
                log.epoch("full", 1, {"loss": 0.25})

    worker = threading.Thread(target=train)  # a worker of Ray Train is no main thread either
    worker.start()
    worker.join()
    assert capfd.readouterr() == ("", "")
    files = sorted(Path(local.path("logs/wandb")).glob("offline-*/run-*.wandb"))
    assert [file.stem for file in files] == ["run-11111111", "run-22222222"]
    run, config, history, summary = wandb_run(files[1])
    assert (run.run_id, run.display_name, run.run_group) == ("22222222", "net 2", "pets")
    assert run.project == "zoo-search"
    assert config.items() >= FACTS.items()
    assert history == [
        {"_step": 1, "frozen/loss": 1},
        {"_step": 2, "frozen/loss": 0.5},
        {"_step": 3, "full/loss": 0.25},
    ]
    assert summary["frozen/test_accuracy"] == 0.5


def test_wandb_of_a_remote_run_comes_at_the_end_or_goes_to_the_folder_of_wandb(
    memory: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(memory, "wandb", key="k7") as log:
        losses(log, "full", 1, 1, base=0)
    (folder,) = memory.list("logs/wandb")
    with memory.local_copy(f"logs/wandb/{folder}/run-k7.wandb") as file:
        assert wandb_run(file)[2] == [{"_step": 1, "full/loss": 1}]
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    opened(memory, "wandb", key="k8").close()
    assert len(list(tmp_path.glob("wandb/offline-*/run-k8.wandb"))) == 1
    assert memory.list("logs/wandb") == [folder]


def test_a_wandb_that_is_off_or_knows_no_key_is_no_harm(
    local: RunStore, monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]],
    private_home: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with opened(local, "wandb") as log:
        losses(log, "full", 1, 1, base=0)
    assert said() == []
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with opened(local, "wandb") as log:
        losses(log, "full", 1, 2, base=0)
    (warning,) = said()
    assert "net 1 at wandb fails, the training goes on: UsageError" in warning
    assert curves(Path(local.path("logs/net+1"))) == {"full/loss": [(1, 1), (2, 2)]}


def test_a_wandb_that_does_not_answer_is_no_harm(
    local: RunStore, monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]
) -> None:
    for name, value in (
        ("WANDB_MODE", "online"),
        ("WANDB_API_KEY", "0" * 40),
        ("WANDB_BASE_URL", "http://127.0.0.1:9"),  # where nobody listens
        ("WANDB_INIT_TIMEOUT", "1"),
    ):
        monkeypatch.setenv(name, value)
    with opened(local, "wandb") as log:
        losses(log, "full", 1, 2, base=0)
    (warning,) = said()
    assert "net 1 at wandb fails, the training goes on: CommError" in warning
    assert curves(Path(local.path("logs/net+1"))) == {"full/loss": [(1, 1), (2, 2)]}


@pytest.fixture(scope="module")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data base of MLflow; to make one takes seconds."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


def mlflow_of(file: Path) -> tuple[MlflowClient, dict[str, Any]]:
    """Return the runs of the experiment "pets" by name."""
    client = MlflowClient(tracking_uri=f"sqlite:///{file}")
    experiment = client.get_experiment_by_name("pets")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return client, {run.info.run_name: run for run in runs}


def test_mlflow_has_a_run_a_network_in_which_a_resumed_training_goes_on(
    local: RunStore, empty_mlflow: Path
) -> None:
    file = Path(local.path("logs/mlflow/mlflow.db"))
    file.parent.mkdir(parents=True)
    shutil.copy(empty_mlflow, file)
    killed = opened(local, "mlflow")
    losses(killed, "frozen", 1, 1, base=10)
    killed.result("frozen", {"test_accuracy": 0.5})
    losses(killed, "full", 1, 3, base=0)
    assert mlflow_of(file)[1]["net 1"].info.status == "RUNNING"
    with opened(local, "mlflow") as log:
        losses(log, "full", 2, 4, base=0)
    with suppress(KeyboardInterrupt), opened(local, "mlflow", key="k2", network="net 2") as log:
        losses(log, "full", 1, 1, base=0)
        raise KeyboardInterrupt
    client, runs = mlflow_of(file)
    assert {name: run.info.status for name, run in runs.items()} == {
        "net 1": "FINISHED",
        "net 2": "FAILED",
    }
    run = runs["net 1"]
    assert run.data.tags["key"] == "k1"
    assert run.data.params == {"schedule": "few-shot", "lr": "0.001", "long": "x" * 6000}
    points = {
        name: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    assert points == {
        "frozen/loss": [(1, 11)],
        "frozen/test_accuracy": [(1, 0.5)],
        "full/loss": [(2, 1), (3, 2), (4, 3), (5, 4)],
    }


def test_an_mlflow_that_fails_in_the_middle_is_told_once_and_left_alone(
    memory: RunStore, empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    said: Callable[[], list[str]],
) -> None:  # fmt: skip
    file = tmp_path / "mlflow.db"
    shutil.copy(empty_mlflow, file)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    with opened(memory, "mlflow") as log:
        losses(log, "full", 1, 1, base=0)
        assert mlflow_of(file)[1]["net 1"].data.metrics == {"full/loss": 1}
        file.write_bytes(b"no data base any more" * 100)
        losses(log, "full", 2, 3, base=0)
    (warning,) = said()
    assert "The log of net 1 at mlflow fails, the training goes on" in warning
    assert fetched(memory, tmp_path / "logs") == {"full/loss": [(1, 1), (2, 2), (3, 3)]}


def test_mlflow_without_a_place_says_what_to_set(
    memory: RunStore, said: Callable[[], list[str]]
) -> None:
    opened(memory, "mlflow").close()
    (warning,) = said()
    assert "Set MLFLOW_TRACKING_URI" in warning


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_missing_package_is_told_before_anything_runs(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: RunStore
) -> None:
    job = load_job(
        {"name": "t", "dataset": "digits", "input_size": 32, "finetune": {"log": kind},
         "zoo": {"net": {"arch": "regnetx_002"}}}
    )  # fmt: skip
    check_networks(job)
    monkeypatch.delitem(sys.modules, kind)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    for _ in range(2):
        with pytest.raises(UserError, match=rf"pip install 'zoo-search\[{kind}\]'"):
            check_networks(job)
        (tmp_path / kind).mkdir(exist_ok=True)  # what a run leaves behind is no package
    with pytest.raises(UserError, match="not installed"):
        opened(local, kind)
    check_logs([])


def test_where_logs_go_makes_no_result_out_of_date() -> None:
    assert FinetuneConfig(log="wandb").log == ("wandb",)  # type: ignore[arg-type]
    config = FinetuneConfig(log=("wandb", "mlflow"))
    assert config.identity() == FinetuneConfig().identity()
    with pytest.raises(ValueError, match=r"log\.0"):
        FinetuneConfig(log="tensorbord")  # type: ignore[arg-type]
