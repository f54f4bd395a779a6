"""Small checkpoints that ask for hours or gigabytes while they are read."""

from __future__ import annotations

import _codecs
import collections
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attacks import Command
from safetensors.torch import save_file

from zoo_search.core.errors import UserError
from zoo_search.zoo.checkpoint import read_checkpoint


def with_pickle(data: bytes, path: Path) -> Path:
    """Write a checkpoint whose pickle is another one."""
    torch.save({"w": torch.ones(2)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, held in members.items():
            archive.writestr(name, data if name.endswith("data.pkl") else held)
    return path


def twice(levels: int) -> bytes:
    """The opcodes of a tuple that holds a tuple twice, which holds a tuple twice, …"""
    steps = (b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(levels))
    return b"K\x01\x85" + b"".join(steps)


def key(data: bytes) -> bytes:
    return b"\x80\x02}" + data + b"Ns."


def called(name: str, data: bytes) -> bytes:
    return b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n" + data + b"R."


HOSTILE = {
    "key": key(twice(60)),
    "deep key": key(b"K\x01" + b"\x85" * 100_000),
    "key of a set": called("builtins set", b"]" + twice(60) + b"a\x85"),
    "key of pairs": called("collections OrderedDict", b"]" + twice(60) + b"N\x86a\x85"),
    "key of a storage": b"\x80\x02(X\x07\x00\x00\x00storageN" + twice(60) + b"NK\x01tQ.",
    "quoted": b"\x80\x02" + twice(60) + b")R.",
    "holds itself": called("builtins set", b"]q\x00(" + b"h\x00" * 99 + b"e\x85"),
    "equal hashes": b"\x80\x02}" + (b"K\x01K\x02\x86Ns" * 20_000) + b".",
    "bytearray": called("builtins bytearray", b"J\x00\x00\x00\x70\x85"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("archive", [True, False])
def test_no_key_of_a_pickle_takes_hours(name: str, archive: bool, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    if archive:
        with_pickle(HOSTILE[name], path)
    else:
        path.write_bytes(HOSTILE[name])
    with pytest.raises(UserError, match=r"w\.pth is refused: it is a pickle of few bytes"):
        read_checkpoint(path, "here")


def test_the_command_says_it_in_one_paragraph(tmp_path: Path, command: Command) -> None:
    path = with_pickle(key(twice(60)), tmp_path / "w.pth")
    out = tmp_path / "out.safetensors"
    ended = command("transfer", f"lcnet_050@{path}", "lcnet_050", "--out", out)
    assert ended.refused("w.pth is refused", "inside each other")


class Call:
    """Is pickled as the call of a function."""

    def __init__(self, function: Callable[..., Any], *given: object) -> None:
        self.parts = function, given

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


@pytest.mark.parametrize(
    "call",
    [
        Call(bytearray, 10**10),
        Call(torch.Tensor, 10**5, 10**6),
        Call(torch.HalfTensor, 10**11),
        Call(torch.UntypedStorage, 10**11),
        Call(torch._tensor._rebuild_from_type_v2, torch.Tensor, torch.Tensor, (10**6, 10**5), {}),
        Call(_codecs.encode, "é" * 10_000, "punycode"),
    ],
)
def test_no_number_of_a_pickle_is_a_size(call: Call, tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "x": call}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="it calls"):
        read_checkpoint(tmp_path / "w.pth", "here")


@pytest.mark.parametrize("new", [True, False])
def test_what_training_scripts_keep_is_read(new: bool, tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = {
        "model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": [0.5] * 9999,
        "parameter": torch.nn.Parameter(torch.ones(2)), "counts": collections.Counter("abb"),
        "bytes": b"a\xff", "array": bytearray(b"a\xff"), "empty": bytearray(), "big": 10**40,
        "keys": {(1, 2): 3, 10**15: 4, None: 5}, "set": {1, 2}, "size": torch.Size([1, 2]),
        "numbers": np.arange(5), "objects": np.array([{"a": 1}, "b"], dtype=object),
    }  # fmt: skip
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=new)
    found = read_checkpoint(tmp_path / "w.pth", "here")
    assert torch.equal(found["model"]["weight"], model.weight)
    assert "optimizer.state.0" in found


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_no_name_has_dots_without_number(name: str, tmp_path: Path, command: Command) -> None:
    state = {"a." * 100_000 + "weight": torch.ones(2)}
    path = tmp_path / name
    torch.save(state, path) if name.endswith("pth") else save_file(state, path)
    out = tmp_path / "out.safetensors"
    ended = command("transfer", f"lcnet_050@{path}", "lcnet_050", "--out", out)
    assert ended.refused("a name of 200,006 signs")
