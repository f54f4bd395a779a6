"""Checkpoints that are torn, too many, or have no room."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.finetune.checkpoints import FOLDER, Checkpoints, TaskCheckpoint
from zoo_search.training.snapshot import Begun, Epoch, Snapshot


def checkpoint(number: int) -> TaskCheckpoint:
    curve = tuple(Epoch(i + 1, 1.0 / (i + 1), 0.1, 2.0, rate=1e-3) for i in range(number))
    tensors = {"model.w": torch.full((3, 4), float(number)), "optimizer.0.step": torch.tensor(2.0)}
    return TaskCheckpoint("full", {}, Snapshot(curve, tensors, Begun(number, 8, 0.1 + 0.2, 3.0)))


def same(checkpoints: Checkpoints, b: TaskCheckpoint) -> bool:
    name = checkpoints.newest()
    assert name is not None
    a = checkpoints.read(name)
    tensors = all(torch.equal(t, a.snapshot.tensors[k]) for k, t in b.snapshot.tensors.items())
    facts = (a.protocol, a.finished, a.snapshot.curve, a.snapshot.begun)
    return tensors and facts == (b.protocol, b.finished, b.snapshot.curve, b.snapshot.begun)


def test_the_newest_is_read_and_the_one_before_is_kept(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    checkpoints = Checkpoints(store, "k")
    assert checkpoints.newest() is None
    for number in range(1, 5):
        checkpoints.write(checkpoint(number))
        assert same(Checkpoints(store, "k"), checkpoint(number))
    assert store.list(f"{FOLDER}/k") == ["000003", "000004"]
    checkpoints.clear()
    assert checkpoints.newest() is None


@pytest.mark.parametrize("name", ["tensors.safetensors", "begun.json"])
@pytest.mark.parametrize("damage", ["cut", "bit", "gone"])
def test_a_damaged_one_is_passed_over(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(RunStore(tmp_path), "k")
    checkpoints.write(checkpoint(1))
    checkpoints.write(checkpoint(2))
    file = tmp_path / FOLDER / "k" / "000002" / name
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "bit":
        place = len(data) - 1 if name.endswith("safetensors") else data.index(b"0.1") + 2
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    else:
        file.unlink()
    with caplog.at_level(logging.WARNING):
        assert same(checkpoints, checkpoint(1))
    assert "000002" in caplog.text
    checkpoints.write(checkpoint(3))
    assert same(checkpoints, checkpoint(3))
    # The damaged one is not kept as the one before.
    assert checkpoints.read("000001").snapshot.begun.steps == 1


def test_a_full_disk_is_said_and_what_was_there_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the operating system answers: /dev/full takes no byte."""
    store = RunStore(tmp_path)
    checkpoints = Checkpoints(store, "k")
    checkpoints.write(checkpoint(1))

    @contextmanager
    def full(name: str) -> Iterator[Path]:
        folder = tmp_path / "aside"
        folder.mkdir()
        (folder / "tensors.safetensors").symlink_to("/dev/full")
        yield folder

    monkeypatch.setattr(store, "local_folder", full)
    with pytest.raises(UserError, match=r"no room for a checkpoint .*go") as raised:
        checkpoints.write(checkpoint(2))
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.ENOSPC
    assert same(checkpoints, checkpoint(1))
