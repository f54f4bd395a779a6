"""The services asked for: their packages, and what the choice does not change."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from finetune.logs.small_logs import opened

from zoo_search.config import FinetuneConfig, load_job
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.finetune.logs import check_logs
from zoo_search.finetune.preflight import check_networks


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_missing_package_is_told_before_anything_runs(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: RunStore
) -> None:
    job = load_job(
        {"name": "t", "dataset": "digits", "input_size": 32, "finetune": {"log": kind},
         "zoo": {"net": {"arch": "regnetx_002"}}}
    )  # fmt: skip
    check_networks(job)
    monkeypatch.delitem(sys.modules, kind, raising=False)
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
