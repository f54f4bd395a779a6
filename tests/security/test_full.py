"""Where there is no room, or nobody may write: one paragraph of every command that writes."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from attacks import Command
from safetensors.torch import save_file

from zoo_search.core import files


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    save_file(timm.create_model("lcnet_050").state_dict(), path)
    return path


@pytest.fixture(params=[errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def refusing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A file system that refuses each byte that is written aside."""
    opened: Callable[..., io.IOBase] = Path.open

    def open_full(path: Path, mode: str = "r", *args: Any, **named: Any) -> io.IOBase:
        if path.name.startswith(files.ASIDE) and "w" in mode:
            raise OSError(request.param, os.strerror(request.param), str(path))
        return opened(path, mode, *args, **named)

    monkeypatch.setattr(Path, "open", open_full)
    return int(request.param)


def test_weights_that_have_no_room_are_one_paragraph(
    command: Command, weights: Path, tmp_path: Path, refusing: int
) -> None:
    word = f"lcnet_050@{weights}"
    ended = command("transfer", word, "resnet10t", "--out", tmp_path / "b.safetensors")
    assert ended.refused("b.safetensors", os.strerror(refusing), "run the same command again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors"]


def test_a_zoo_is_listed_where_its_facts_cannot_be_kept(
    command: Command, weights: Path, tmp_path: Path, refusing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_SEARCH_CACHE", str(tmp_path / "cache"))
    job = tmp_path / "job.yaml"
    job.write_text(
        "{name: x, input_size: 32, dataset: digits, "
        f"zoo: {{a: {{arch: lcnet_050, weights: {weights}}}}}}}"
    )
    assert command("zoo", "list", job).code == 0


def test_an_export_that_has_no_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch would raise a RuntimeError that does not say why."""
    from zoo_search.export import runtimes

    class Net(torch.nn.Module):
        input_size = (3, 8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((1, 2, 3))

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as raised:
        runtimes.export_torch(Net(), tmp_path / "x" / "model.pt2")  # type: ignore[arg-type]
    assert files.is_full(raised.value)
    assert list((tmp_path / "x").iterdir()) == []
