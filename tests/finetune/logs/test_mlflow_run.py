"""What MLflow finds of a training, and what happens when it fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from finetune.logs.small_logs import fetched, losses, opened
from mlflow import MlflowClient

from zoo_search.core.store import RunStore


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
