"""What Weights & Biases finds of a training, and what happens when it fails."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from finetune.logs.small_logs import FACTS, curves, losses, opened
from wandb.proto.wandb_internal_pb2 import Record

from zoo_search.core.store import RunStore


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
