"""What a path in a run file means: the same from every working directory."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from zoo_search.config import JobConfig, load_job
from zoo_search.config.paths import ResolvedPath, as_given
from zoo_search.config.section import Section, as_spelled
from zoo_search.core.errors import Note

PATHS = {
    "dataset.path": "images/pets",
    "zoo.m.weights": "w/m.pth",
    "similarity.dataset.path": "t.parquet",
    "search.storage": "sqlite:///study.db",
    "finetune.plain.p.weights": "../p.pth",
}
JOB: dict[str, Any] = {
    "name": "a",
    "dataset": {"name": "folder", "path": PATHS["dataset.path"]},
    "zoo": {"m": {"arch": "resnet18", "weights": PATHS["zoo.m.weights"]}},
    "similarity": {"dataset": {"name": "parquet", "path": PATHS["similarity.dataset.path"]}},
    "search": {"storage": PATHS["search.storage"]},
    "finetune": {"plain": {"p": {"arch": "resnet34", "weights": "../p.pth"}}},
}
"""A relative path wherever one may stand; ``similarity.table`` stands instead of its data set."""


def located(section: Section, place: str = "") -> Iterator[tuple[str, ResolvedPath]]:
    """Every resolved path of a configuration, with its place."""
    for name, value in section:
        inner = value if isinstance(value, Mapping) else {"": value}
        for key, each in inner.items():
            at = ".".join(part for part in (place, name, str(key)) if part)
            if isinstance(each, Section):
                yield from located(each, at)
            elif isinstance(each, ResolvedPath):
                yield at, each


def write(folder: Path, job: dict[str, Any] = JOB) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: neither the run file nor anything else is there."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize("spelling", ["{}/job.yaml", "{}/../jobs/job.yaml", "../jobs/job.yaml"])
def test_every_path_counts_from_the_folder_of_the_run_file(tmp_path: Path, spelling: str) -> None:
    path = write(tmp_path / "jobs")
    named = spelling.format(path.parent)
    job = load_job(named)
    found = dict(located(job))
    assert {place: each.given for place, each in found.items()} == PATHS
    assert job.paths() == found
    assert all(each.is_relative for each in found.values())
    folder = path.parent
    for place, text in PATHS.items():
        before, _, relative = text.rpartition("///")
        there = found[place].removeprefix(f"{before}///" if before else "")
        assert Path(there).is_absolute()
        assert Path(there).resolve() == (folder / relative).resolve(), place
    table = {**JOB, "similarity": {"table": "t.parquet"}}
    assert load_job(write(folder, table)).similarity.table == str(folder / "t.parquet")


def test_a_written_configuration_means_the_same_anywhere(tmp_path: Path) -> None:
    job = load_job(write(tmp_path / "jobs"))
    again = load_job(write(tmp_path / "run", yaml.safe_load(job.to_yaml())))
    assert again == job
    for same in (pickle.loads(pickle.dumps(job)), copy.deepcopy(job), job.model_copy(deep=True)):
        assert same == job
        assert [as_given(each) for _, each in located(same)] == [
            as_given(each) for _, each in located(job)
        ]


@pytest.mark.parametrize(
    "kept",
    ["s3://bucket/a", "memory://x/y.pth", "file:///a b/c", "zip://a::file.zip", "/abs/x.pth"],
)
def test_what_has_its_place_keeps_it(tmp_path: Path, kept: str) -> None:
    zoo = {"m": {"arch": "resnet18", "weights": kept}}
    job = load_job(
        write(tmp_path, {**JOB, "zoo": zoo, "dataset": {"name": "folder", "path": kept}})
    )
    assert (job.dataset.path, job.zoo["m"].weights) == (kept, kept)


@pytest.mark.parametrize(
    "words", ["timm", "hf-hub:timm/x", "package:a/b.pth", "pretrained_on:digits", None]
)
def test_a_word_is_no_path(tmp_path: Path, words: str | None) -> None:
    zoo = {"m": {"arch": "resnet18", "weights": words}}
    assert load_job(write(tmp_path, {**JOB, "zoo": zoo})).zoo["m"].weights == words
    for url in ("sqlite:///:memory:", "mysql://u@h/d", "sqlite:////abs/x.db?timeout=3"):
        job = load_job(write(tmp_path, {**JOB, "search": {"storage": url}}))
        assert job.search.storage == url


def test_home_is_its_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    change = {
        "dataset": {"name": "folder", "path": "~/pets"},
        "search": {"storage": "sqlite:///~/s.db"},
    }
    for source in (write(tmp_path, JOB | change), JOB | change):
        job = load_job(source)
        assert job.dataset.path == str(tmp_path / "me/pets")
        assert job.search.storage == f"sqlite:///{tmp_path / 'me/s.db'}"


def test_old_files_go_on_working_with_a_note(tmp_path: Path, elsewhere: Path) -> None:
    """Paths once counted from the working directory."""
    path = write(tmp_path / "jobs")
    (elsewhere / "images/pets").mkdir(parents=True)
    with pytest.warns(Note, match=r"'images/pets' is taken from the working directory") as caught:
        job = load_job(path)
    assert job.dataset.path == str(elsewhere / "images/pets")
    assert len(caught) == 1
    said = str(caught[0].message)
    assert "Write '../elsewhere/images/pets'" in said
    (path.parent / "images/pets").mkdir(parents=True)
    with pytest.warns(Note, match="is taken from the folder of the run file.*another one"):
        assert load_job(path).dataset.path == str(path.parent / "images/pets")
    (path.parent / "images/pets").rmdir()
    (path.parent / "images/pets").symlink_to(elsewhere / "images/pets")
    with warnings.catch_warnings():  # the same by two ways
        warnings.simplefilter("error")
        assert load_job(path).dataset.path == str(path.parent / "images/pets")


def test_a_change_counts_from_the_working_directory(tmp_path: Path, elsewhere: Path) -> None:
    path = write(tmp_path / "jobs")
    (elsewhere / "images/pets").mkdir(parents=True)  # of the value that the change replaces
    (path.parent / "typed").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        job = load_job(
            path,
            ["dataset.path=typed", "zoo={m: {arch: resnet18, weights: w.pth}}",
             "finetune.plain.p.weights=~/p.pth", "finetune.schedule=timm"],
        )  # fmt: skip
    assert job.dataset.path == str(elsewhere / "typed")
    assert job.zoo["m"].weights == str(elsewhere / "w.pth")
    assert job.finetune.plain["p"].weights == str(Path.home() / "p.pth")
    assert job.similarity.dataset is not None
    assert job.similarity.dataset.path == str(path.parent / "t.parquet")
    changed = load_job(JOB, ["dataset.path=x"])
    assert changed.dataset.path == str(elsewhere / "x")


@given(st.text(min_size=1, max_size=40))
def test_any_text_is_a_path_or_is_refused(text: str) -> None:
    job = JOB | {"dataset": {"name": "folder", "path": text}}
    found = load_job(job).dataset.path
    assert found is not None
    assert found == text or Path(found).is_absolute()
    assert as_given(found) == text


SPELLINGS = ["w/m.pth", "./w/m.pth", "../jobs/w/m.pth", "w//m.pth"]


@pytest.mark.parametrize("spelling", SPELLINGS[1:])
def test_identities_do_not_depend_on_the_spelling(tmp_path: Path, spelling: str) -> None:
    def spelled(text: str) -> JobConfig:
        change = {
            "zoo": {"m": {"arch": "resnet18", "weights": text}},
            "finetune": {"plain": {"p": {"arch": "resnet34", "weights": text}}},
            "similarity": {"dataset": {"name": "parquet", "path": text}},
            "dataset": {"name": "folder", "path": text},
        }
        return load_job(write(tmp_path / "jobs", JOB | change))

    def identities(job: JobConfig) -> list[object]:
        return [
            job.zoo["m"].identity(), job.finetune.identity(), job.similarity.identity(),
            job.dataset.identity(), job.to_yaml(first_names=True),
        ]  # fmt: skip

    one, other = spelled(SPELLINGS[0]), spelled(spelling)
    assert identities(one) == identities(other)
    with as_spelled():  # as earlier versions had it: the text itself
        assert all(a != b for a, b in zip(identities(one), identities(other), strict=True))
        assert other.zoo["m"].identity()["weights"] == spelling
    null = one.zoo["m"].model_copy(update={"weights": None})
    assert null.identity() != one.zoo["m"].identity()
