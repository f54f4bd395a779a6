"""What tests of logs share: no network, run directories, and the warnings of our own code."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wandb

from zoo_search.core.store import RunStore


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
