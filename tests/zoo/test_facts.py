"""Facts of an unchanged zoo are shown without torch; whatever changes is looked at again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from zoo_search.cli.app import app
from zoo_search.config import load_job
from zoo_search.core.errors import UserError
from zoo_search.core.files import cache_folder
from zoo_search.core.identity import fingerprint
from zoo_search.core.version import __version__
from zoo_search.zoo import load, load_zoo
from zoo_search.zoo.facts import _key, detail, details
from zoo_search.zoo.listing import ModelDetail, inspect_model


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("ZOO_SEARCH_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    weights = tmp_path / "net.safetensors"
    save_file(timm.create_model("resnet10t", num_classes=3).state_dict(), weights)
    entry = {"arch": "resnet10t", "kwargs": {"num_classes": 3}, "weights": str(weights)}
    empty = {"arch": "resnet10t", "kwargs": {"num_classes": 5}, "weights": None}
    return {"name": "a", "dataset": "digits", "input_size": 32, "zoo": {"net": entry, "new": empty}}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count how often a zoo is really loaded."""
    counted: list[str] = []

    def counting(config: Any) -> Any:
        counted.append(config.name)
        return load_zoo(config)

    monkeypatch.setattr(load, "load_zoo", counting)
    return counted


def timeless(found: ModelDetail) -> ModelDetail:
    """Without the seconds that a hook took."""
    init = tuple({**report, "seconds": 0.0} for report in found.row.init)
    return replace(found, row=replace(found.row, init=init))


def test_what_is_kept_is_what_the_models_say(job: dict[str, Any], loads: list[str]) -> None:
    first = details(job)
    fresh = [inspect_model(model) for model in load_zoo(job).values()]
    assert [timeless(found) for found in first] == [timeless(found) for found in fresh]
    assert details(job) == first
    assert detail(job, "new") == first[1]
    assert len(loads) == 1


@pytest.mark.slow
def test_the_command_on_an_unchanged_zoo_imports_no_torch(
    job: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
    code = """
import sys
from zoo_search.cli.app import app
try:
    app([*sys.argv[1:], "--json"])
except SystemExit:
    print({"torch", "ray", "timm"} & set(sys.modules), file=sys.stderr)
"""

    def shown(*words: str) -> tuple[Any, str]:
        done = subprocess.run(
            [sys.executable, "-c", code, "zoo", *words], cwd=tmp_path, env=dict(os.environ),
            capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
        return json.loads(done.stdout), done.stderr.splitlines()[-1]

    monkeypatch.chdir(tmp_path)
    app(["zoo", "list", "job.yaml", "--json"], standalone_mode=False)
    new = json.loads(capsys.readouterr().out)
    assert shown("list", "job.yaml") == (new, "set()")
    cuts, heavy = shown("inspect", "job.yaml", "net")
    assert heavy == "set()"
    assert len(cuts) == new[0]["nodes"] + 2  # the image before them, the head behind


def test_a_change_is_noticed(job: dict[str, Any], loads: list[str]) -> None:
    details(job)
    other = {**job, "input_size": 64}
    assert details(other)[0].row.size == (64, 64)
    assert len(loads) == 2

    path = Path(job["zoo"]["net"]["weights"])
    net = timm.create_model("resnet10t", num_classes=4)
    save_file(net.state_dict(), path)
    with pytest.raises(UserError, match="does not fit"):
        details(job)
    job["zoo"]["net"]["kwargs"] = {"num_classes": 4}
    assert details(job)[0].row.params == sum(p.numel() for p in net.parameters())
    path.unlink()
    with pytest.raises(UserError, match="there is no file"):
        details(job)


def test_options_that_came_later_change_no_key(job: dict[str, Any]) -> None:
    config = load_job(job)
    said = config.model_dump(mode="json", include={"zoo", "input_size", "seed", "init"})
    for entry in said["zoo"].values():
        assert entry.pop("state") is None
    versions = [version("timm"), version("torch"), __version__]
    assert _key(config) == fingerprint([2, versions, list(config.zoo), str(Path.cwd()), said])
    job["zoo"]["net"]["state"] = "ema"
    assert _key(load_job(job)) != _key(config)


def test_a_damaged_record_is_made_anew(job: dict[str, Any], loads: list[str]) -> None:
    first = details(job)
    (record,) = cache_folder("facts").iterdir()
    record.write_bytes(record.read_bytes()[:100])
    assert [timeless(found) for found in details(job)] == [timeless(found) for found in first]
    assert len(loads) == 2


def test_what_runs_code_of_the_users_is_not_kept(
    job: dict[str, Any], loads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "facts_net.py").write_text(
        "import timm\ndef net():\n    return timm.create_model('resnet10t', num_classes=3)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    job["zoo"]["net"] |= {"arch": "module:facts_net:net", "kwargs": {}}
    details(job)
    details(job)
    assert len(loads) == 2


def test_an_unknown_name_is_told_before_anything_is_loaded(
    job: dict[str, Any], loads: list[str]
) -> None:
    with pytest.raises(UserError, match="Did you mean 'net'"):
        detail(job, "nett")
    assert loads == []
