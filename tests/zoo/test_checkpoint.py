"""Checkpoints: no code is run, nothing is loaded that does not fit, messages name the tensors."""

from __future__ import annotations

import argparse
import datetime
import functools
import os
import pathlib
import types
import uuid
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
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
from zoo_search.zoo.pickles import Aside, load_torch


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


def test_every_mapping_of_tensors_is_read_by_its_keys(tmp_path: Path) -> None:
    state = _net().state_dict()
    optimizer = torch.optim.Adam(_net().parameters()).state_dict()
    file = {"epoch": 3, "model": {"ema": state, "raw": _prefixed(state, "m.")}, "o": optimizer}
    torch.save(file, tmp_path / "x.pth")
    read = read_checkpoint(tmp_path / "x.pth", "zoo.x.weights")
    assert list(read) == ["model.ema", "model.raw"]
    assert list(read["model.ema"]) == list(state)
    assert list(read["model.raw"]) == [f"m.{key}" for key in state]


PLAIN = {
    "NumPy": {
        "scalars": [np.float64(3), np.int64(2), np.bool_(True), np.str_("x")],
        "arrays": [np.arange(5.0), np.array([1, "a", None], dtype=object)],
        "types": [np.dtype("f4"), np.float32, np.datetime64("2020-01-01")],
        "random": np.random.default_rng(0).bit_generator.state,
    },
    "paths": [Path("a/b"), pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a")],
    "arguments": argparse.Namespace(lr=0.1, out=Path("x"), more=types.SimpleNamespace(a=1)),
    "containers": [
        OrderedDict(a=1), defaultdict(list, a=[1]), deque([1, 2]), Counter("aab"), {1, 2},
        frozenset({1}), range(3),
    ],
    "dates": [
        datetime.datetime.now(tz=datetime.UTC), datetime.date(2020, 1, 1),
        datetime.time(3), datetime.timedelta(3),
    ],
    "numbers": [uuid.UUID(int=3), Decimal("1.3"), Fraction(1, 3), 1j, b"abc", torch.__version__],
}  # fmt: skip


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("zipped", [True, False])
def test_plain_values_beside_the_weights_are_passed_over(
    tmp_path: Path, kind: str, zipped: bool
) -> None:
    state = _net().state_dict()
    file = {"a": PLAIN[kind], "state_dict": state, "b": {"c": [PLAIN[kind]]}}
    torch.save(file, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(tmp_path / "x.pth", "zoo.x.weights")
    assert list(read) == ["state_dict"]
    assert all(torch.equal(read["state_dict"][key], state[key]) for key in state)


class _Calls:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


GADGETS = {
    "posix.system": _Calls(os.system, "true"),
    "eval": _Calls(eval, "1"),
    "getattr": _Calls(getattr, 1, "real"),
    "__import__": _Calls(__import__, "os"),
    "functools.partial": _Calls(functools.partial, len),
    "io.open": _Calls(open, "x", "w"),
    "numpy.load": _Calls(np.load, "x"),
    "torch.serialization.load": _Calls(torch.load, "x"),
    "map": _Calls(map, eval, ["1"]),
}


@pytest.mark.parametrize("name", GADGETS)
def test_gadgets_among_plain_values_are_refused(tmp_path: Path, name: str) -> None:
    """Also where they stand inside what is passed over."""
    inside = argparse.Namespace(a=[defaultdict(list, b=GADGETS[name])])
    for gadget in (GADGETS[name], inside):
        torch.save({**_net().state_dict(), "extra": gadget}, tmp_path / "x.pth")
        with pytest.raises(UserError, match=f"x.pth is refused.*'{name}'"):
            read_checkpoint(tmp_path / "x.pth", "zoo.x.weights")


def test_nothing_of_what_lies_beside_the_weights_is_made(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1), "x": PLAIN}, tmp_path / "x.pth")

    def inside(value: object) -> Iterator[object]:
        values = value.values() if isinstance(value, dict) else value
        for each in values if isinstance(value, dict | list | set) else ():
            yield each
            yield from inside(each)

    known = {dict, OrderedDict, Counter, list, set, str, int, bytes, complex, Tensor, Aside}
    made = inside(load_torch(tmp_path / "x.pth", "x"))
    assert {type(value) for value in made if value is not Aside} <= known


def test_another_protocol_is_named(tmp_path: Path) -> None:
    torch.save(_net().state_dict(), tmp_path / "x.pth", pickle_protocol=4)
    with pytest.raises(UserError, match=r"x\.pth is a pickle of a protocol.*pickle_protocol=2"):
        read_checkpoint(tmp_path / "x.pth", "zoo.x.weights")


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(_net().state_dict(), tmp_path / "x.safetensors")
    read = read_checkpoint(tmp_path / "x.safetensors", "zoo.x.weights")
    assert describe_mismatch(_net(), read[""]) is None


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
