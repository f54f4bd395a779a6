"""``zoo-search init``: a file that is never overwritten unasked, and what is printed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from run.draft.folders import MODEL, fill
from typer.testing import CliRunner, Result

from zoo_search.cli.app import app
from zoo_search.config import load_job
from zoo_search.core.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return fill(os.fsencode("my pets"), {b"cat": 6, b"dog": 6})


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["init", *words, "--zoo", MODEL])


def test_a_run_file_is_written_beside_its_folder(folder: str, tmp_path: Path) -> None:
    done = call(folder, "--seed", "3")
    assert done.exit_code == 0, done.output
    job = load_job(tmp_path / "my-pets.yaml")
    assert (job.name, job.seed, job.dataset.path) == ("my-pets", 3, str(tmp_path / "my pets"))
    assert "path: my pets\n" in (tmp_path / "my-pets.yaml").read_text()
    assert list(job.zoo) == ["lcnet_050"]
    assert "2 classes, 12 images: 10 for the training, 2 for the test" in done.stdout
    assert done.stdout.endswith(
        "written to my-pets.yaml; look at it, then:\n"
        "  zoo-search rank my-pets.yaml\n  zoo-search run my-pets.yaml\n"
    )
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_elsewhere_the_path_of_the_images_is_absolute(folder: str, tmp_path: Path) -> None:
    assert call(folder, "--out", "jobs/a.yaml").exit_code == 0
    assert load_job(tmp_path / "jobs" / "a.yaml").dataset.path == str(tmp_path / "my pets")


def test_nothing_is_overwritten_unless_it_is_asked_for(folder: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("mine", encoding="utf-8")
    done = call(folder, "--out", str(path))
    assert isinstance(done.exception, UserError)
    assert "is there already, and nothing is overwritten" in str(done.exception)
    assert path.read_text(encoding="utf-8") == "mine"
    assert call(folder, "--out", str(path), "--force").exit_code == 0
    assert load_job(path).name == "my-pets"


def test_a_place_that_cannot_be_written_is_told(folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = call(folder, "--out", "file/a.yaml")
    assert isinstance(done.exception, UserError)
    assert "cannot be written" in str(done.exception)
    done = call(folder, "--out", ".", "--force")
    assert isinstance(done.exception, UserError)
    assert "cannot be written" in str(done.exception)
