"""Curves as runs of MLflow: one a network."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_search.core.errors import UserError
from zoo_search.finetune.logs.events import LOGS

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from zoo_search.core.store import RunStore

_URI = "MLFLOW_TRACKING_URI"
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # by default 7, for minutes: the training waits
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; by default 120
}


class MlflowRun:
    """A run in the experiment of the job, with the hash of the task as its tag ``key``.

    A training that goes on finds its run by the tag. The run goes to ``MLFLOW_TRACKING_URI``; by
    default to ``logs/mlflow/mlflow.db`` of a local run directory. All variables ``MLFLOW_*`` are
    heeded.

    Raises:
        UserError: If the run directory is remote and ``MLFLOW_TRACKING_URI`` is not set.
        Exception: What mlflow raises if the server does not answer; so do the methods.
    """

    def __init__(
        self, store: RunStore, experiment: str, key: str, network: str, facts: Mapping[str, object]
    ) -> None:
        if not store.is_local and not os.environ.get(_URI):
            raise UserError(
                f"the run directory {store.url} is remote and can hold no MLflow data base. Set "
                f"{_URI}"
            )
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.entities import Param
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        place = os.environ.get(_URI)
        artifacts = None
        if not place:
            folder = Path(store.path(f"{LOGS}/mlflow"))
            folder.mkdir(parents=True, exist_ok=True)
            place, artifacts = f"sqlite:///{folder}/mlflow.db", (folder / "artifacts").as_uri()
        self._client = MlflowClient(tracking_uri=place)
        number = _experiment(self._client, experiment, artifacts)
        found = self._client.search_runs([number], f"tags.key = '{key}'", max_results=1)
        run = found[0] if found else None
        if run is None:
            run = self._client.create_run(number, run_name=network, tags={"key": key})
        else:
            self._client.update_run(run.info.run_id, status="RUNNING")
        self._run = run.info.run_id
        self._there = {
            (name, point.step)
            for name in run.data.metrics
            for point in self._client.get_metric_history(self._run, name)
        }
        params = [
            Param(name, str(value)[:MAX_PARAM_VAL_LENGTH])
            for name, value in facts.items()
            if name not in run.data.params
        ]
        for start in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
            part = params[start : start + MAX_PARAMS_TAGS_PER_BATCH]
            self._client.log_batch(self._run, params=part)

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Log values at a step, but for those that the run has there."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        new = {name: value for name, value in values.items() if (name, step) not in self._there}
        metrics = [Metric(name, value, now, step) for name, value in new.items()]
        self._client.log_batch(self._run, metrics=metrics)
        self._there |= {(name, step) for name in new}

    result = epoch

    def close(self, failed: bool) -> None:
        """End the run."""
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    """Return the id of an experiment; it is made if it is not there."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another worker was quicker
            if found is None:
                raise
    return str(found.experiment_id)
