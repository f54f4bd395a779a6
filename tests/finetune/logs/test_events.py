"""Event files: what TensorBoard finds of a training, in a local and a remote run directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from finetune.logs.small_logs import curves, fetched, losses, opened

from zoo_search.core.store import RunStore
from zoo_search.finetune.logs.events import events_folder


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
