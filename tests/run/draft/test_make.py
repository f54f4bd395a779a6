"""Run files that are drafted for folders of any shape: each is read without an error."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run.draft.folders import LAPTOP, MODEL, SERVER, fill

from zoo_search.config import JobConfig, load_job
from zoo_search.core.errors import UserError
from zoo_search.data import open_dataset
from zoo_search.run.draft.make import draft
from zoo_search.run.draft.models import choose_size

NAMES = [
    b"on", b"yes", b"null", b"~", b"1.10", b"0x1f", b"2020-01-01", b"1e3", b"two words", b" x",
    b"#a", b"a: b", b"{a}", b"[a", b"&a", b"*", b"!t", b"- a", b"%", b"'", b'"', b"a,b", b"|", b">",
    b"?***", b"://***", b"new\nline", b"tab\t", "é".encode(), "\u2028".encode(), "\ufeffx".encode(),
    "\U0001f431".encode(), "\u202e".encode(), b"ch\xefen", b"\xff\xfe", b"\\xe9", b"caf\\x5c",
    b"a" * 120,
]  # fmt: skip
SPLITS = [(), (b"train", b"test"), (b"Training", b"val"), (b"train", b"validation", b"test")]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from(NAMES), min_size=2, max_size=5, unique=True),
    st.sampled_from(SPLITS),
    st.integers(1, 5),
    st.sampled_from(
        [b"pets", b"on", b"a b", b"my\xe9", b"~a", "Hünde & Co".encode(), b"1.0", b"#"]
    ),
    st.sampled_from(["RGB", "L", "RGBA", "I;16"]),
    st.booleans(),
)
def test_a_draft_is_a_run_file_of_the_folder(
    names: list[bytes],
    splits: tuple[bytes, ...],
    count: int,
    root: bytes,
    mode: str,
    relative: bool,
) -> None:
    with tempfile.TemporaryDirectory() as place:
        before = Path.cwd()
        os.chdir(place)
        try:
            folders = [os.path.join(s, n) for s in splits or (b"",) for n in names]  # noqa: PTH118
            fill(root, dict.fromkeys(folders, count), mode=mode)
            folder = os.fsdecode(root if relative else os.fsencode(place) + b"/" + root)
            if folder.startswith("~"):  # as a shell lets one say it
                folder = f"./{folder}"
            drafted = draft(folder, zoo=[MODEL], hardware=LAPTOP)
            path = Path("job.yaml")
            path.write_text(drafted.text, encoding="utf-8")
            job = load_job(path)
            assert max(map(len, drafted.text.splitlines())) < 200  # only values and names are long
            assert job.input_size == 64
            found = open_dataset(job.dataset, job.seed)
            assert len(found.classes) == len(names)
            assert len(found) == len(folders) * count
        finally:
            os.chdir(before)


def test_the_text_tells_what_was_found(tmp_path: Path) -> None:
    counts = {b"cat": 40, b"dog": 4, b"black": 4}
    folder = fill(os.fsencode(tmp_path / "pets"), counts, side=150)
    for image in (tmp_path / "pets" / "black").iterdir():
        image.write_bytes((tmp_path / "pets" / "black" / "0.png").read_bytes())
    (tmp_path / "pets" / "cat" / "bad.png").write_bytes(b"no image")
    drafted = draft(folder, zoo=[MODEL], hardware=LAPTOP)
    text = " ".join(line.strip(" #") for line in drafted.text.splitlines())
    assert "zoo-search run pets.yaml" in text
    assert "The classes are of very different size" in text
    assert "cannot be decoded: cat/bad.png (not an image of a known format)" in text
    assert "48 images were looked at (48 colour): their shorter side has 150 pixels." in text
    assert "this machine (2 CPU cores, 8 GB of memory, no GPU)" in text
    assert "3 classes. 39 images are for the training: cat 33, " in text
    assert "a fifth of each class, 10 images, is drawn for it" in text
    assert "are held out in a training" in text
    assert drafted.found[0] == "3 classes, 49 images: 39 for the training, 10 for the test"
    assert load_job_text(tmp_path, drafted.text).input_size == 160


def load_job_text(folder: Path, text: str) -> JobConfig:
    path = folder / "drafted.yaml"
    path.write_text(text, encoding="utf-8")
    return load_job(path)


def test_own_splits_are_told_as_such(tmp_path: Path) -> None:
    folders = [os.path.join(s, n) for s in (b"train", b"val", b"test") for n in (b"a", b"b")]  # noqa: PTH118
    folder = fill(os.fsencode(tmp_path / "x"), dict.fromkeys(folders, 6))
    text = " ".join(draft(folder, zoo=[MODEL], hardware=LAPTOP).text.replace("#", "").split())
    assert "its 12 images are those of the folder's own split" in text
    assert "Its 12 validation images choose the weights and the winner" in text


def test_splits_that_may_be_classes_are_told_by_an_option(tmp_path: Path) -> None:
    folder = fill(
        os.fsencode(tmp_path / "x"), {b"val/a": 3, b"test/a": 3, b"val/b": 3, b"test/b": 3}
    )
    with pytest.raises(UserError, match=r"read in two ways.*so with --splits drawn"):
        draft(folder, zoo=[MODEL], hardware=LAPTOP)
    drafted = draft(folder, zoo=[MODEL], hardware=LAPTOP, splits="drawn")
    assert load_job_text(tmp_path, drafted.text).dataset.splits.drawn
    named = draft(folder, zoo=[MODEL], hardware=LAPTOP, splits="{train: val, test: test}")
    assert open_dataset(load_job_text(tmp_path, named.text).dataset).classes == ("a", "b")


def test_what_would_stop_the_run_is_told_and_the_file_is_drafted(tmp_path: Path) -> None:
    folder = fill(os.fsencode(tmp_path / "x"), {b"a": 1, b"b": 1})
    drafted = draft(folder, zoo=[MODEL], hardware=LAPTOP)
    assert any("As it is, a run would stop at once" in note for note in drafted.notes)
    assert load_job_text(tmp_path, drafted.text).finetune.validation == 0


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({b"a": 3}, "has one class alone, 'a'"),
        ({}, "has no class folders"),
        ({b"a": 0, b"b": 0}, "these classes have no images"),
    ],
)
def test_a_folder_without_two_classes_is_refused(
    tmp_path: Path, counts: dict[bytes, int], told: str
) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match=told):
        draft(fill(os.fsencode(tmp_path / "x"), counts), zoo=[MODEL], hardware=LAPTOP)


def test_no_folder_no_image_and_no_model_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is not there. Give a folder"):
        draft(str(tmp_path / "nowhere"), hardware=LAPTOP)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"file is a file, and no folder"):
        draft(str(tmp_path / "file"), hardware=LAPTOP)
    folder = fill(os.fsencode(tmp_path / "x"), {b"a": 2, b"b": 2})
    with pytest.raises(UserError, match=r"knows no architecture 'lcnt_050'. Did you mean"):
        draft(folder, zoo=["lcnt_050"], hardware=LAPTOP)
    for image in (tmp_path / "x").rglob("*.png"):
        image.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"No image of .*x can be decoded, of 4"):
        draft(folder, zoo=[MODEL], hardware=LAPTOP)


@pytest.mark.parametrize(
    ("side", "cpu", "gpu"),
    [(8, 64, 64), (64, 64, 64), (65, 96, 96), (160, 160, 160), (900, 160, 224)],
)
def test_the_input_size_holds_the_images(side: int, cpu: int, gpu: int) -> None:
    assert (choose_size(side, LAPTOP), choose_size(side, SERVER)) == (cpu, gpu)
