"""Checkpoints: no code is run, nothing is loaded that does not fit, messages name the tensors."""

from __future__ import annotations

import argparse
import os
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo_search.core.errors import UserError
from zoo_search.zoo.checkpoint import (
    describe_mismatch,
    in_key_order,
    read_checkpoint,
    without_counters,
)


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


class _Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, zipped: bool) -> None:
    target, path = tmp_path / "written", tmp_path / "evil.pth"
    state = {**_net().state_dict(), "extra": _Evil(target)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"zoo\.x.*evil\.pth is refused.*system") as caught:
        read_checkpoint(path, "zoo.x.weights")
    assert "\n" not in str(caught.value)
    assert not target.exists()
    torch.load(path, weights_only=False)  # the file is what the test says it is
    assert target.exists()


@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"PK\x03\x04 cut short"])
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_other_files_are_named(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} is not a"):
        read_checkpoint(tmp_path / name, "zoo.x.weights")


@pytest.mark.parametrize("layer", ["list", "dict", "tuple"])
def test_a_pickle_of_many_layers_ends_in_a_paragraph(tmp_path: Path, layer: str) -> None:
    deep = 200_000
    pickles = {
        "list": b"]" * deep + b"a" * (deep - 1),
        "dict": b"}X\x05\x00\x00\x00model" * deep + b"}" + b"s" * deep,
        "tuple": b")" + b"\x85" * deep,
    }
    torch.save({}, tmp_path / "empty.pth")
    with (
        zipfile.ZipFile(tmp_path / "empty.pth") as empty,
        zipfile.ZipFile(tmp_path / "deep.pth", "w") as made,
    ):
        for name in empty.namelist():
            pickled = b"\x80\x02" + pickles[layer] + b"."
            made.writestr(name, pickled if name.endswith("data.pkl") else empty.read(name))
    with pytest.raises(UserError, match=r"deep\.pth holds no weights that are known"):
        read_checkpoint(tmp_path / "deep.pth", "zoo.x.weights")


def test_no_weights_inside(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "args": argparse.Namespace(lr=1.0)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"holds no weights.*epoch, args"):
        read_checkpoint(tmp_path / "x.pth", "zoo.x.weights")


def _prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "_orig_mod.", "model."])
def test_wrappers_are_taken_off(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    state = _net().state_dict()
    inner = _prefixed(state, prefix)
    torch.save({wrapper: inner, "epoch": 1} if wrapper else inner, tmp_path / "x.pth")
    read = read_checkpoint(tmp_path / "x.pth", "zoo.x.weights")
    assert list(read) == list(state)
    assert all(torch.equal(read[k], state[k]) for k in state)


def test_averaged_weights_come_first(tmp_path: Path) -> None:
    state = _net().state_dict()
    average = {k: v + 1 for k, v in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": average}, tmp_path / "x.pth")
    read = read_checkpoint(tmp_path / "x.pth", "zoo.x.weights")
    assert torch.equal(read["0.weight"], state["0.weight"] + 1)


def test_swa_wrapper_of_torch(tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(_net(), use_buffers=True)
    torch.save(averaged.state_dict(), tmp_path / "x.pth")
    read = read_checkpoint(tmp_path / "x.pth", "zoo.x.weights")
    assert describe_mismatch(_net(), read) is None


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(_net().state_dict(), tmp_path / "x.safetensors")
    read = read_checkpoint(tmp_path / "x.safetensors", "zoo.x.weights")
    assert describe_mismatch(_net(), read) is None


def test_mismatches_name_up_to_five_tensors_with_shapes() -> None:
    own = nn.Sequential(*(nn.Linear(2, 3) for _ in range(5)))
    found = {key: torch.zeros(7) for key in own.state_dict()}
    del found["0.weight"]
    found["stranger"] = torch.zeros(2, 2)
    text = describe_mismatch(own, found)
    assert text is not None
    assert "0.weight: expected (3, 2), found nothing" in text
    assert "0.bias: expected (3,), found (7,)" in text
    assert text.count("expected") == 5
    assert text.endswith("and 6 more")
    assert describe_mismatch(own, {**own.state_dict(), "stranger": torch.zeros(2, 2)}) == (
        "stranger: expected nothing of this name, found (2, 2)"
    )


def test_key_order_takes_other_names() -> None:
    own = _net()
    found = OrderedDict((f"k{i}", t + 1) for i, t in enumerate(own.state_dict().values()))
    state, problem = in_key_order(own, found)
    assert problem is None
    assert list(state) == list(own.state_dict())
    assert torch.equal(state["3.bias"], found["k8"])


def test_key_order_without_batch_counters_on_either_side() -> None:
    own, state = _net(), _net().state_dict()
    bare = {f"other.{k}": v for k, v in state.items() if "num_batches" not in k}
    matched, problem = in_key_order(own, bare)
    assert problem is None
    assert without_counters(own, matched).keys() == state.keys()
    old = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    extra = {
        **{f"o.{k}": v for k, v in old.state_dict().items()},
        "o.1.num_batches_tracked": torch.tensor(5),
    }
    matched, problem = in_key_order(old, extra)
    assert problem is None
    assert list(matched) == list(old.state_dict())


def test_key_order_never_takes_a_mean_for_a_bias() -> None:
    own = nn.Sequential(nn.BatchNorm2d(4))
    values = own.state_dict()
    swapped = {
        f"bn.{k}": values[f"0.{k}"] for k in ("weight", "running_mean", "bias", "running_var")
    }
    state, problem = in_key_order(own, swapped)
    assert state == {}
    assert problem is not None
    assert "position 1: expected 0.bias (4,), found bn.running_mean (4,)" in problem


def test_key_order_with_a_wrong_shape_or_number() -> None:
    own = _net()
    found = {f"k.{k}": v for k, v in own.state_dict().items()}
    found["k.3.bias"] = torch.zeros(9)
    assert "position 8: expected 3.bias (2,), found k.3.bias (9,)" in str(
        in_key_order(own, found)[1]
    )
    del found["k.3.bias"]
    assert "expected 8 tensors, found 7" in str(in_key_order(own, found)[1])  # counters aside
