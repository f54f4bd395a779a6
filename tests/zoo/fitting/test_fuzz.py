"""Checkpoints of any shape, whole and damaged: each is loaded or refused in one paragraph."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo_search.config import ZooEntry
from zoo_search.core.errors import UserError
from zoo_search.zoo.build import build
from zoo_search.zoo.fitting.fit import load_weights
from zoo_search.zoo.hub import WeightsFile

INPUTS = 1500
WORDS = ["model", "module", "ema", "_orig_mod", "", "0", "stem", " ", "head", "..", 3, None, (1, 2)]
TENSORS: list[Callable[[Tensor], object]] = [
    lambda t: t.half(), lambda t: t.to(torch.int8), lambda t: t.to_sparse(), lambda t: t.to("meta"),
    lambda t: t * torch.nan, lambda t: t[:1] if t.ndim else t, lambda t: t.reshape(-1),
    lambda t: t.to(torch.complex64), lambda t: t.sum(), lambda t: torch.empty(0), lambda t: None,
    lambda t: t.to(torch.float8_e4m3fn), lambda t: nn.Parameter(t.float()), lambda t: t.bool(),
]  # fmt: skip


def net(num_classes: int = 5) -> nn.Module:
    module = nn.Module()
    module.stem, module.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    module.blocks = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module.head = nn.Linear(4, num_classes)
    return module


def changed(state: dict[Any, Any], draw: random.Random) -> dict[Any, Any]:
    """Return a checkpoint with one thing about it changed."""
    word, key = draw.choice(WORDS), draw.choice(list(state) or [0])
    return draw.choice([
        lambda: {k: v for k, v in state.items() if k != key},
        lambda: {**state, key: draw.choice(TENSORS)(t)}
        if isinstance(t := state.get(key), Tensor)
        else state,
        lambda: {f"{word}.{k}": v for k, v in state.items()},
        lambda: {**state, word: torch.ones(draw.randrange(3))},
        lambda: {word: state, draw.choice(WORDS): draw.choice([state, 3, {"x": torch.ones(1)}])},
        lambda: {**state, **{f"{word}.{k}": v for k, v in state.items()}},
        lambda: {str(k).replace(".", "", draw.randrange(2)): v for k, v in state.items()},
    ])()  # fmt: skip


def damaged(data: bytes, draw: random.Random) -> bytes:
    end = draw.choice([len(data), draw.randrange(1, len(data))])
    flipped = bytearray(data[:end])
    for _ in range(draw.randrange(4)):
        flipped[draw.randrange(end)] = draw.randrange(256)
    return bytes(flipped)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_checkpoint_ends_in_a_stack_trace(tmp_path: Path) -> None:
    draw, outcomes, path = random.Random(0), Counter[str](), tmp_path / "w.pth"
    torch.manual_seed(0)
    for _ in range(INPUTS):
        state: dict[Any, Any] = dict(net(draw.choice([5, 7])).state_dict())
        for _ in range(draw.randrange(4)):
            state = changed(state, draw)
        torch.save(state, path)
        if draw.random() < 0.15:
            path.write_bytes(damaged(path.read_bytes(), draw))
        entry = ZooEntry(
            arch=f"module:{__name__}:net",
            weights=str(path),
            key_order=draw.random() < 0.3,
            state=draw.choice([None, None, "ema", "model"]),
        )
        try:
            load_weights(
                build(entry.arch, {}, "zoo.a"), WeightsFile(path, "w.pth"), entry, "zoo.a", None
            )
            outcomes["loaded"] += 1
        except UserError as error:
            outcomes["refused" if "\n" not in str(error) else "in lines"] += 1
    assert set(outcomes) == {"loaded", "refused"}
    assert min(outcomes["loaded"], outcomes["refused"]) > INPUTS / 20
