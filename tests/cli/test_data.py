"""``zoo-search data pack``: what it prints opens what it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_images import write_images

from zoo_search.cli.app import app
from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import open_dataset


def call(*arguments: object) -> None:
    app(["data", "pack", *map(str, arguments)], standalone_mode=False)


def test_the_last_line_is_the_section_of_a_run_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "pets", {"cat": 10, "dog": 12})
    (tmp_path / "pets/dog/1.png").write_bytes(b"no image")
    dataset = {"name": "folder", "path": str(tmp_path / "pets"), "per_class": 8, "max_bad": 0.1}
    job = {"name": "a", "zoo": {"m": {"arch": "resnet18"}}, "dataset": dataset}
    (tmp_path / "job.yaml").write_text(json.dumps(job), encoding="utf-8")
    call(tmp_path / "job.yaml", tmp_path / "an: out", "--shard-mb", 0.02, "--resize", 6)
    told = capsys.readouterr()
    assert "left out, as they cannot be read or decoded: 1 images: dog/1.png" in told.err
    (line,) = told.out.splitlines()
    assert line.startswith("6 shards, 21 images, 0.1 MB; dataset: {name: webdataset, path: ")
    section = yaml.safe_load(line.partition("; ")[2])["dataset"]
    assert section == {**dataset, "name": "webdataset", "path": str(tmp_path / "an: out")}
    opened = open_dataset(DatasetConfig(**section))
    assert opened.classes == ("cat", "dog")
    assert len(opened.select("train")) == 16
    call(tmp_path / "job.yaml", tmp_path / "an: out", "--shard-mb", 0.02, "--resize", 6)
    again = capsys.readouterr()
    assert again.out == told.out
    assert "6 of 6 shards were there already" in again.err


def test_a_path_is_a_folder_unless_named(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", {"cat": 3, "dog": 3})
    call(tmp_path / "pets", tmp_path / "out")
    call(tmp_path / "out", tmp_path / "second", "--name", "webdataset", "--seed", 3)
    second = open_dataset(DatasetConfig(name="webdataset", path=str(tmp_path / "second")))
    assert len(second) == 6
    with pytest.raises(UserError, match="Did you mean 'webdataset'"):
        call(tmp_path / "out", tmp_path / "third", "--name", "webdatset")


def test_a_mistake_is_told_without_torch() -> None:
    code = """
import sys
from zoo_search.cli.app import app
try:
    app(["data", "pack", "nowhere.yaml", "out"])
except Exception as error:
    print(type(error).__name__, {"torch", "ray", "timm"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "UserError set()"
