"""Images that two splits share, against comparing all pairs."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_images import by_split, write_images

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import SPLITS, VisionDataset, open_dataset
from zoo_search.data.checks import duplicates
from zoo_search.data.checks.duplicates import twins
from zoo_search.data.sources import Reader, Unreadable


class Held(Reader):
    """Contents by id; counts what is read."""

    def __init__(self, contents: dict[str, bytes | np.ndarray]) -> None:
        self.contents, self.read_ids = contents, Counter[str]()

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes | Unreadable]]:
        for name in ids:
            self.read_ids[name] += 1
            yield name, self.contents[name]  # type: ignore[misc]


CONTENTS = st.sampled_from([b"", b"a", b"b", b"aa", b"ab", b"ba", b"aaa"])
IMAGES = st.lists(st.tuples(CONTENTS, st.sampled_from([*SPLITS, None])), max_size=14)


@settings(max_examples=60)
@given(IMAGES, st.booleans())
def test_twins_are_those_that_all_pairs_show(
    images: list[tuple[bytes, str | None]], sized: bool
) -> None:
    ids = [f"{i:02d}" for i in range(len(images))]
    content, split = [c for c, _ in images], [s for _, s in images]
    reader = Held(dict(zip(ids, content, strict=True)))
    sizes = np.asarray(list(map(len, content)), np.int64) if sized else None
    found = twins(reader, ids, split, sizes)
    order = [SPLITS.index(s) if s else -1 for s in split]  # type: ignore[arg-type]
    expected = {
        i
        for i in range(len(ids))
        if content[i]
        and any(0 <= order[j] < order[i] and content[j] == content[i] for j in range(len(ids)))
    }
    assert set(found.of) == expected
    assert all(content[i] == content[j] and order[j] < order[i] for i, j in found.of.items())
    assert found.looked == found.total or not expected
    if sized:  # sizes that are in one split alone are not read
        shared = {
            len(c) for c in content if len({s for d, s in images if s and len(d) == len(c)}) > 1
        }
        assert {len(reader.contents[name]) for name in reader.read_ids} <= shared


def test_large_data_sets_are_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_BYTES", 3000)
    contents = {f"{part}{i}": bytes([i]) * (i + 1) for part in ("x", "y") for i in range(100)}
    split = ["train"] * 100 + ["test"] * 100
    sizes = np.asarray([len(c) for c in contents.values()], np.int64)
    reader = Held(dict(contents))
    found = twins(reader, list(contents), split, sizes)
    assert 0 < len(found.of) == found.looked < found.total == 100
    assert sum(len(contents[name]) for name in reader.read_ids) <= 3000
    again = twins(reader, list(contents), split, sizes)
    assert again.of == found.of
    assert len(twins(reader, list(contents), split, sizes, every=True).of) == 100


def test_arrays_of_other_shapes_are_no_twins() -> None:
    square = np.arange(16, dtype=np.uint8).reshape(4, 4)
    reader = Held({"a": square, "b": square.copy(), "c": square.reshape(2, 8)})
    assert twins(reader, ["a", "b", "c"], ["train", "test", "test"]).of == {1: 0}


def opened(path: Path, **options: object) -> VisionDataset:
    return open_dataset(DatasetConfig(name="folder", path=str(path), **options))


def test_dedupe_leaves_them_out_of_the_test(tmp_path: Path) -> None:
    write_images(tmp_path, {f"{s}/{c}": 4 for s in ("train", "val", "test") for c in "ab"})
    shutil.copy(tmp_path / "train/a/0.png", tmp_path / "test/b/again.png")
    shutil.copy(tmp_path / "train/a/1.png", tmp_path / "val/a/again.png")
    shutil.copy(tmp_path / "val/b/0.png", tmp_path / "test/b/0.png")
    plain, clean = opened(tmp_path), opened(tmp_path, dedupe=True)
    before, after = by_split(plain), by_split(clean)
    assert before["train"] == after["train"]
    assert before["test"] - after["test"] == {"test/b/again.png", "test/b/0.png"}
    assert before["validation"] - after["validation"] == {"val/a/again.png"}
    assert clean.dropped == {"test": 2, "validation": 1}
    assert clean.fingerprint != plain.fingerprint
    # The test is the same whatever part of the training images is used.
    assert by_split(opened(tmp_path, dedupe=True, limit=2))["test"] == after["test"]


def test_without_twins_dedupe_changes_nothing(tmp_path: Path) -> None:
    write_images(tmp_path, {"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 2})
    assert opened(tmp_path, dedupe=True).fingerprint == opened(tmp_path).fingerprint


def test_a_test_of_training_images_alone_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, {"train/a": 4, "train/b": 4})
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    assert len(opened(tmp_path).select("test")) == 8
    with pytest.raises(UserError, match=r"dedupe: each of the 8 test images"):
        opened(tmp_path, dedupe=True)


def test_a_test_that_is_drawn_holds_no_copies(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 10, "b": 10})
    for i in range(10):
        shutil.copy(tmp_path / f"a/{i}.png", tmp_path / f"a/copy{i}.png")
    split = by_split(opened(tmp_path, dedupe=True))
    content = {
        part: {(tmp_path / name).read_bytes() for name in names} for part, names in split.items()
    }
    assert not content["train"] & content["test"]
