"""What travels to a cluster: all that is named by relative paths, laid out as it is here."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo_search.config import load_job
from zoo_search.core.errors import UserError
from zoo_search.run.upload import Upload, upload_of

SMALL: dict[str, Any] = {"name": "a", "zoo": {"m": {"arch": "resnet18"}}, "dataset": "digits"}


def write(path: Path, job: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(SMALL | job), encoding="utf-8")
    return path


def put(path: Path, data: bytes = b"data") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def unpacked(upload: Upload, folder: Path) -> set[str]:
    upload.write(folder.with_suffix(".zip"))
    with zipfile.ZipFile(folder.with_suffix(".zip")) as archive:
        archive.extractall(folder)
        return set(archive.namelist())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "a project"
    put(place / "images/pets/train/cat/1.png")
    put(place / "images/pets/.env", b"KEY=secret")
    put(place / "images/pets/.git/config")
    put(place / "weights/m.pth", b"m" * 3_000_000)
    put(place / "jobs/beside.pth")
    put(place / "unrelated.bin")
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize("cwd", [".", "jobs", "elsewhere"])
def test_paths_mean_the_same_where_it_was_unpacked(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cwd: str
) -> None:
    """The run file is read again in the unpacked archive, in a process that knows nothing else."""
    (project / cwd).mkdir(exist_ok=True)
    monkeypatch.chdir(project / cwd)
    job = write(project / "jobs/pets.yaml", {
        "dataset": {"name": "folder", "path": "../images/pets"},
        "zoo": {"m": {"arch": "resnet18", "weights": "beside.pth"}},
        "finetune": {"plain": {"p": {"arch": "resnet18", "weights": "/abs/p.pth"}}},
        "similarity": {"dataset": {"name": "folder", "path": "s3://bucket/x"}},
    })  # fmt: skip
    change = [f"zoo.t={{arch: resnet34, weights: {os.path.relpath(project / 'weights/m.pth')}}}"]
    upload = upload_of(Path(os.path.relpath(job)), load_job(job, change))
    names = unpacked(upload, tmp_path / "there")
    assert {name.removeprefix("a project/") for name in names} == {
        "jobs/pets.yaml", "images/pets/train/cat/1.png", "jobs/beside.pth", "weights/m.pth",
    }  # fmt: skip
    assert upload.bytes == sum((upload.root / name).stat().st_size for name in names)
    assert upload.left == ("/abs/p.pth (finetune.plain.p.weights)",)
    code = (
        "import sys; from pathlib import Path; from zoo_search.config import load_job\n"
        "job = load_job(sys.argv[1], sys.argv[2:])\n"
        "print(*(Path(p).resolve() for p in (job.dataset.path, job.zoo['m'].weights, "
        "job.zoo['t'].weights)), sep='\\n')"
    )
    working = tmp_path / "there" / upload.working
    working.mkdir(parents=True, exist_ok=True)
    run = upload.command(job, ["--dir", "x"])
    assert [run[0], run[1], run[3], run[4]] == ["zoo-search", "run", "--dir", "x"]
    done = subprocess.run(
        [sys.executable, "-c", code, run[2], *change],
        cwd=working, capture_output=True, text=True, check=True,
    )  # fmt: skip
    base = (tmp_path / "there" / project.relative_to(upload.root)).resolve()
    expected = [base / "images/pets", base / "jobs/beside.pth", base / "weights/m.pth"]
    assert done.stdout.split("\n")[:3] == [str(path) for path in expected]
    assert shlex.split(shlex.join(run)) == run


def test_modules_travel_where_one_is_named(project: Path, tmp_path: Path) -> None:
    put(project / "my_nets.py")
    put(project / "lib/more.py")
    put(project / "lib/data.bin")
    put(project / ".venv/pyvenv.cfg")
    put(project / ".venv/x.py")
    put(project / "env/pyvenv.cfg")
    put(project / "env/y.py")
    put(project / "runs/a/zoo-search.json")
    put(project / "runs/a/z.py")
    job = write(project / "jobs/pets.yaml", {})
    assert set(upload_of(job, load_job(job)).files) == {job}
    job = write(job, {"zoo": {"m": {"arch": "module:my_nets:net", "weights": None}}})
    names = unpacked(upload_of(job, load_job(job)), tmp_path / "there")
    assert names == {"jobs/pets.yaml", "my_nets.py", "lib/more.py"}


def test_equal_files_make_an_equal_archive(project: Path, tmp_path: Path) -> None:
    job = write(project / "job.yaml", {"dataset": {"name": "folder", "path": "images/pets"}})
    upload = upload_of(job, load_job(job))
    upload.write(tmp_path / "1.zip")
    (project / "images/pets/train/cat/1.png").touch()
    upload.write(tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_too_much_is_refused_with_the_largest(project: Path) -> None:
    job = write(project / "job.yaml", {
        "dataset": {"name": "folder", "path": "images/pets"},
        "zoo": {"m": {"arch": "resnet18", "weights": "weights/m.pth"}},
    })  # fmt: skip
    upload = upload_of(job, load_job(job))
    upload.check(upload.bytes)
    with pytest.raises(UserError) as caught:
        upload.check(upload.bytes - 1)
    told = str(caught.value)
    assert "too large to travel: 3 files, 3.0 MB" in told
    assert "The largest files are weights/m.pth (3.0 MB), job.yaml" in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dataset": {"name": "folder", "path": "images/none"}}, "dataset.path: there is nothing"),
        ({"search": {"storage": "sqlite:///s.db"}}, "search.storage: sqlite:///s.db is a file"),
    ],
)
def test_what_cannot_travel_is_named(project: Path, change: dict[str, Any], told: str) -> None:
    job = write(project / "job.yaml", change)
    with pytest.raises(UserError, match=told):
        upload_of(job, load_job(job))


def test_links_travel_as_what_they_lead_to(project: Path, tmp_path: Path) -> None:
    put(tmp_path / "far/dog/1.png", b"dog")
    (project / "images/pets/train/dog").symlink_to(tmp_path / "far/dog")
    (project / "images/pets/train/cat/gone.png").symlink_to(tmp_path / "nowhere")
    job = write(project / "job.yaml", {"dataset": {"name": "folder", "path": "images/pets"}})
    unpacked(upload_of(job, load_job(job)), tmp_path / "there")
    there = tmp_path / "there/images/pets/train"
    assert (there / "dog/1.png").read_bytes() == b"dog"
    assert not (there / "cat/gone.png").exists()
