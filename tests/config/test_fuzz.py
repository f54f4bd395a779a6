"""Run files of any shape, whole and damaged: each is read or refused in one paragraph."""

from __future__ import annotations

import copy
import datetime
import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo_search.config import load_job
from zoo_search.core.errors import Note, UserError
from zoo_search.run.run import check_names

INPUTS = 1500

BASE: dict[str, Any] = {
    "name": "fuzz", "seed": 3, "input_size": 64,
    "zoo": {
        "a": {"arch": "resnet10t", "weights": None, "license": "mit"},
        "b": {"arch": "resnet14t", "weights": "b.pth", "kwargs": {"in_chans": 3}},
    },
    "dataset": {"name": "folder", "path": "images", "per_class": 5, "value_range": [0, 4095]},
    "init": ["dpiat", {"hook": "least_squares", "roles": ["candidate"]}],
    "similarity": {"limit": 100, "metric": "cka", "dataset": "digits"},
    "partition": {"k": [2, 3], "eps": 0.5, "restarts": 20},
    "budget": {"max_params": 3e7, "max_macs": "5e9", "licenses": ["mit"]},
    "search": {"trials": 5, "sampler": "tpe", "proxies": ["probe"], "hours": 0.5},
    "finetune": {
        "winners": 2, "schedule": {"name": "few-shot", "mixup": 0.1}, "seeds": 2,
        "plain": {"p": {"arch": "resnet18", "init": ["random"]}},
        "variants": {"v": {"models": {"a": {"kwargs": {"act_layer": "gelu"}}}}},
    },
}  # fmt: skip
VALUES = [
    None, True, False, 0, 1, -1, 2**63, 10**400, 0.5, float("nan"), float("inf"), "", " ", "a", "1",
    "yes", "1e9", "..", "module:os:system", "module:", "hf:", "s3://K:S@b/c", "~", "\x00", "\ud83d",
    "x" * 5000, [], {}, [[]], [None], {"": 1}, {1: 2}, {None: None}, datetime.date(2024, 1, 2),
    b"\xff", (1, 2), {"name": "folder"}, {"arch": "resnet18"}, ["a", "a"], [1, "a", None],
]  # fmt: skip
KEYS = ["a", "", " ", "trials", "name", "weights", "arch", 1, None, True, 0.5, "K" * 300, "é", "\n"]
TEXT = ["\t", "---\n", "&a ", "*a", "<<: *a\n", "? ", "!!python/object:os.system ", "%TAG", "'",
        '"', "{", "[", "- ", ": ", "#", "!!binary x", "!!set {a}", "\r", "\x85", "\u2028",
        "|\n", ">"]  # fmt: skip


def places(data: Any) -> list[Any]:
    """Return every mapping and list inside of a value."""
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else []
    found = [data] if isinstance(data, dict | list) and data else []
    return found + [place for value in inner for place in places(value)]


def change(data: dict[Any, Any], draw: random.Random) -> None:
    """Change one thing about a run file: a value, a key, or where a part of it stands."""
    place = draw.choice(places(data) or [data])
    if isinstance(place, list):
        place[draw.randrange(len(place))] = draw.choice(VALUES)
        return
    key = draw.choice(list(place) or ["a"])
    what = draw.randrange(5)
    if what == 0:
        place.pop(key, None)
    elif what == 1:
        place[draw.choice(KEYS)] = draw.choice(VALUES)
    elif what == 2:
        place[f"{key}s"] = place.pop(key, None)
    elif what == 3:
        place[key] = copy.deepcopy(draw.choice(places(data) or [{}]))
    else:
        place[key] = draw.choice(VALUES)


def damaged(text: str, draw: random.Random) -> bytes:
    """Return the bytes of a text with signs of YAML put in, or some bytes changed, or cut off."""
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(text))
        text = text[:at] + draw.choice(TEXT) + text[at:]
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw.choice([0, 0, 3])):
        data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data[: draw.choice([len(data), draw.randrange(len(data))])])


def read(path: Path, changes: list[str]) -> None:
    """Read a run file as a command does, and look at the names; what is kept of it reads back."""
    job = load_job(path, changes)
    check_names(job)
    again = load_job(yaml.safe_load(job.to_yaml()))
    assert again.to_yaml() == job.to_yaml()


@pytest.mark.slow
def test_no_run_file_ends_in_a_stack_trace(tmp_path: Path) -> None:
    draw, path = random.Random(0), tmp_path / "job.yaml"
    refusals, read_in_full = list[str](), 0
    for _ in range(INPUTS):
        data = copy.deepcopy(BASE)
        for _ in range(draw.randrange(4)):
            change(data, draw)
        text = yaml.dump(data, allow_unicode=draw.random() < 0.5, sort_keys=False)
        content = text.encode("utf-8", "surrogatepass")
        path.write_bytes(damaged(text, draw) if draw.random() < 0.4 else content)
        changes: list[str] = []
        if draw.random() < 0.2:
            key = ".".join(str(draw.choice([*KEYS, *BASE])) for _ in range(draw.randrange(4)))
            changes.append(draw.choice([f"{key}={draw.choice(VALUES)}", key, f"{key}={{", "=", ""]))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Note)
                read(path, changes)
            read_in_full += 1
        except UserError as error:
            refusals.append(str(error))
    assert read_in_full > INPUTS / 20
    assert len(refusals) > INPUTS / 20
    ugly = (text for text in refusals if not text.isprintable() or len(text) > 3000)
    assert next(ugly, "")[:2000] == ""
