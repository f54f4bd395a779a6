"""Streamed images are the images that would be kept, in the order that was asked for."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from PIL import Image

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.data import open_dataset
from zoo_search.data.base import Subset
from zoo_search.data.preprocess import Preprocess
from zoo_search.finetune.images import streaming
from zoo_search.finetune.images.places import (
    Kept,
    KeptReader,
    Places,
    _decode,
    folds_of,
    open_images,
)
from zoo_search.finetune.images.streaming import CHUNK, Streamed, groups_of, streamed
from zoo_search.training.accuracy import accuracy
from zoo_search.training.order import share, steps_of
from zoo_search.training.pictures import PictureAugment
from zoo_search.training.schedules import SCHEDULES

pytestmark = pytest.mark.usefixtures("ray_cluster")
TRANSFORM = Preprocess(size=(24, 24))
COUNT = 150


def picture(seed: int) -> bytes:
    draw = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for i in range(COUNT):
        (folder / f"class{i % 3}").mkdir(exist_ok=True)
        (folder / f"class{i % 3}" / f"{i:03d}.png").write_bytes(picture(i))
    return folder


def train_of(name: str, path: Path, **more: object) -> Subset:
    config = DatasetConfig(name=name, path=str(path), **more)  # type: ignore[arg-type]
    return open_dataset(config).select("train")


def together(source: Streamed, wanted: list[np.ndarray], draw: str | None) -> list[torch.Tensor]:
    return [torch.cat(parts) for parts in zip(*source.read(wanted, draw), strict=True)]


def test_what_is_streamed_is_what_is_kept(files: Path) -> None:
    """Also over several chunks, in steps that are cut across them."""
    selection = train_of("folder", files)
    source, kept = streamed(selection, TRANSFORM.view), selection.load(TRANSFORM.view)
    assert len(source) == len(kept) > CHUNK
    order = source.order(np.random.default_rng(0))
    steps = steps_of(order, 17)
    found = list(source.read(steps))
    for step, (images, labels) in zip(steps, found, strict=True):
        assert images.dtype == torch.uint8
        assert torch.equal(images, kept.images[step])
        assert torch.equal(labels, kept.labels[step])
    assert list(source.read([])) == []


def test_shares_of_several_workers_are_the_steps_of_one(files: Path) -> None:
    """RandAugment, too, does the same to an image whoever reads it, and another in each epoch."""
    selection = train_of("folder", files)
    source = streamed(selection, TRANSFORM.view, PictureAugment(TRANSFORM, 0.5, 0.25))
    steps = steps_of(source.order(np.random.default_rng(1)), 16)
    whole, labels = together(source, steps, "0 full 1")
    seen = torch.zeros(len(whole), dtype=torch.bool)
    starts = np.cumsum([0, *map(len, steps)])
    for rank in range(2):
        places = [share(len(step), rank, 2) for step in steps]
        mine = [step[p] for step, p in zip(steps, places, strict=True)]
        images, own = together(source, mine, "0 full 1")
        at = np.concatenate([start + p for start, p in zip(starts, places, strict=False)])
        assert torch.equal(images, whole[at])
        assert torch.equal(own, labels[at])
        seen[at] = True
    assert bool(seen.all())
    other, same = together(source, steps, "0 full 2")
    assert torch.equal(same, labels)
    assert bool((other != whole).flatten(1).any(dim=1).all())
    plain, _ = together(source, steps, None)
    assert torch.equal(plain, selection.load(TRANSFORM.view).images[np.concatenate(steps)])


def test_pictures_that_are_kept_are_augmented_alike(files: Path) -> None:
    dataset = open_dataset(DatasetConfig(name="folder", path=str(files)))
    schedule = SCHEDULES["timm"]
    found = []
    for keep in (0.0, 0.5):
        places = Places(dataset, folds_of(dataset, 0, 0.0, 1), 0, keep)
        source = open_images(places.train(0, TRANSFORM, schedule, "full"))
        assert isinstance(source, Streamed)
        assert isinstance(ray.get(source.stored).reader, KeptReader) == (keep > 0)
        found.append(together(source, [np.arange(70)], "a"))
        assert isinstance(places.test(TRANSFORM), Kept) == (keep > 0)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_what_fits_is_kept_and_what_does_not_is_streamed(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo_search.finetune.images import places

    dataset = open_dataset(DatasetConfig(name="folder", path=str(files)))
    size = TRANSFORM.view.nbytes
    monkeypatch.setattr(places, "_object_store", lambda: 100.0 * size)
    few = SCHEDULES["few-shot"]
    for keep, train, test in ((1.0, False, True), (0.2, False, False), (1.2, True, False)):
        made = Places(dataset, folds_of(dataset, 0, 0.2, 2), 0, keep)
        kinds = [made.train(0, TRANSFORM, few, "full"), made.test(TRANSFORM)]
        assert [isinstance(kind, Kept) for kind in kinds] == [train, test]
        # All folds, and what is held out of them, are positions in the same decoded images.
        others = [made.train(1, TRANSFORM, few, "frozen"), made.validation(0, TRANSFORM)]
        if isinstance(kinds[0], Kept):
            assert [o.data for o in others if isinstance(o, Kept)] == [kinds[0].data] * 2
        else:
            assert all(isinstance(other, Streamed) for other in others)


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_what_a_fold_learns_from_and_is_judged_on(files: Path, keep: float) -> None:
    """Kept or streamed: the images of a fold, without those held out, which no two folds share."""
    dataset = open_dataset(DatasetConfig(name="folder", path=str(files)))
    folds = folds_of(dataset, 0, None, 3)
    made = Places(dataset, folds, 0, keep)
    every = set(dataset.select("train").ids)
    judged: list[str] = []
    for number, fold in enumerate(folds):
        assert fold.validation is not None
        train, held = set(fold.train.ids), set(fold.validation.ids)
        assert not train & held
        assert train | held == every
        assert len(held) == pytest.approx(len(every) / 5, abs=1)
        assert np.bincount(fold.validation.labels).min() >= 7
        judged += fold.validation.ids
        learned = made.train(number, TRANSFORM, SCHEDULES["few-shot"], "full")
        looked_at = made.validation(number, TRANSFORM)
        assert looked_at is not None
        for part, place in ((fold.train, learned), (fold.validation, looked_at)):
            source, loaded = open_images(place), part.load(TRANSFORM.view)
            ((images, labels),) = source.read([np.arange(len(source))])
            assert torch.equal(images, loaded.images)
            assert torch.equal(labels, loaded.labels)
    assert len(judged) == len(set(judged))
    whole = open_images(made.train(None, TRANSFORM, SCHEDULES["few-shot"], "full"))
    assert len(whole) == len(every)
    assert made.validation(None, TRANSFORM) is None


def test_without_a_share_nothing_is_held_out(files: Path) -> None:
    dataset = open_dataset(DatasetConfig(name="folder", path=str(files)))
    folds = folds_of(dataset, 0, 0.0, 2)
    assert [(len(f.train), f.validation) for f in folds] == [
        (len(dataset.select("train")), None)
    ] * 2
    assert Places(dataset, folds, 0, 0.5).validation(1, TRANSFORM) is None


def test_a_validation_split_of_its_own_judges_all_trainings(files: Path, tmp_path: Path) -> None:
    for split, names in (("train", "012"), ("val", "34"), ("test", "56")):
        for kind in range(3):
            (tmp_path / split / f"class{kind}").mkdir(parents=True)
            for name in names:
                (tmp_path / split / f"class{kind}" / f"{name}.png").write_bytes(picture(int(name)))
    dataset = open_dataset(DatasetConfig(name="folder", path=str(tmp_path)))
    folds = folds_of(dataset, 0, None, 2)
    assert [len(fold.train) for fold in folds] == [9, 9]
    held = [fold.validation.ids for fold in folds if fold.validation is not None]
    assert held[0] == held[1] == dataset.select("validation").ids
    assert len(held[0]) == 6
    place = Places(dataset, folds, 0, 0.5).validation(1, TRANSFORM)
    assert place is not None
    assert len(open_images(place)) == 6
    asked = folds_of(dataset, 0, 0.34, 1)[0]  # an explicit share is held out all the same
    assert asked.validation is not None
    assert len(asked.train) + len(asked.validation) == 9


def test_row_groups_are_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"image": [picture(i) for i in range(90)], "label": [i % 3 for i in range(90)]}
    pq.write_table(pa.table(table), tmp_path / "train.parquet", row_group_size=10)
    selection = train_of("parquet", tmp_path / "train.parquet")
    source = streamed(selection, TRANSFORM.view)
    groups = groups_of(selection)
    assert groups is not None
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(selection)))
    monkeypatch.setattr(streaming, "_SPAN", 20)
    order = source.order(np.random.default_rng(0))
    images, labels = together(source, steps_of(order, 7), None)
    kept = replace(_decode(selection, TRANSFORM.view), groups=groups, training=True).open()
    assert (kept.order(np.random.default_rng(0)) == order).all()
    assert torch.equal(images, kept.images[order])
    assert torch.equal(labels, kept.labels[order])


@pytest.fixture
def spoilt(files: Path, tmp_path: Path) -> tuple[Subset, list[int]]:
    """A selection of which three images have gone bad since it was listed, and their positions."""
    shutil.copytree(files, tmp_path / "x")
    selection = train_of("folder", tmp_path / "x", max_bad=0.5)
    bad = [3, 4, len(selection) - 1]
    for position in bad:
        (tmp_path / "x" / selection.ids[position]).write_bytes(b"no image")
    return selection, bad


def test_an_image_that_goes_bad_is_counted_and_stood_in_for(
    files: Path, spoilt: tuple[Subset, list[int]]
) -> None:
    """The next good one takes its place, whoever reads it, in whatever chunk, kept or streamed."""
    selection, bad = spoilt
    count = len(selection)
    sound = train_of("folder", files).load(TRANSFORM.view)
    takes = np.arange(count)
    takes[bad] = [5, 5, 0]
    source = streamed(selection, TRANSFORM.view)
    images, labels = together(source, [np.arange(count)], "a")
    assert torch.equal(images, sound.images[takes])
    assert torch.equal(labels, sound.labels[takes])
    alone, label = together(source, [np.asarray([count - 1])], "a")
    assert torch.equal(alone[0], sound.images[0])
    assert int(label) == int(sound.labels[0])
    kept = replace(_decode(selection, TRANSFORM.view), training=True).open()
    ((again, named),) = kept.read([np.arange(count)])
    assert torch.equal(again, images)
    assert torch.equal(named, labels)
    at = np.asarray([2, 3, count - 1, 7])  # a fold: the next good one of the fold
    fold = replace(_decode(selection, TRANSFORM.view), at=at, training=True).open()
    ((some, _),) = fold.read([np.arange(4)])
    assert torch.equal(some, sound.images[[2, 7, 7, 7]])
    assert set(selection.skipped.reasons()) == {selection.ids[position] for position in bad}


def test_a_bad_image_of_the_test_does_not_count(spoilt: tuple[Subset, list[int]]) -> None:
    selection, bad = spoilt
    _, labels = together(streamed(selection, TRANSFORM.view), [np.arange(len(selection))], None)
    assert np.flatnonzero(labels.numpy() < 0).tolist() == bad

    class Right(torch.nn.Module):
        """It knows the first half."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            half = torch.arange(self.seen, self.seen + len(x)) < len(selection) // 2
            true = torch.from_numpy(selection.labels[self.seen : self.seen + len(x)])
            self.seen += len(x)
            return torch.nn.functional.one_hot(torch.where(half, true, (true + 1) % 3), 3).float()

    kept = _decode(selection, TRANSFORM.view).open()
    assert np.flatnonzero(kept.labels.numpy() < 0).tolist() == bad
    streams = streamed(selection, TRANSFORM.view)
    expected = (len(selection) // 2 - 2) / (len(selection) - 3)
    assert accuracy(Right(), streams, TRANSFORM, 50) == pytest.approx(expected)


def test_too_many_bad_images_end_it(files: Path, tmp_path: Path) -> None:
    shutil.copytree(files, tmp_path / "x")
    selection = train_of("folder", tmp_path / "x")
    source = streamed(selection, TRANSFORM.view)
    for name in selection.ids[:5]:
        (tmp_path / "x" / name).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"^\d of \d+ images could not be decoded"):
        together(source, [np.arange(len(source))], None)
