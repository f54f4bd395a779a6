"""Sources with one plausible fault each."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from zoo_search.config import DatasetConfig
from zoo_search.data.sources import SOURCES, Listing, Unreadable, chunks
from zoo_search.testing.sources import SourceContract


class Reader:
    """Reads arrays ``CLASS-NUMBER.npy`` by name."""

    in_memory = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, ids):
        for name in ids:
            yield name, self.one(name)

    def one(self, name):
        try:
            return np.load(self.folder / name)
        except ValueError as error:
            return Unreadable(str(error))

    def groups(self, ids):
        return chunks(ids)


class Source:
    """A source that is sound; those below change one thing of it."""

    Reader = Reader

    def __call__(self, config: DatasetConfig) -> Listing:
        folder = Path(str(config.path))
        names = self.names(folder)
        classes = sorted({name.partition("-")[0] for name in names})
        return Listing(
            classes=tuple(classes),
            ids=[self.id_of(name, folder) for name in names],
            labels=[classes.index(name.partition("-")[0]) for name in names],
            splits=self.splits(names),
            content=self.content(folder, names),
            reader=self.Reader(folder),
        )

    def names(self, folder):
        return sorted(path.name for path in folder.iterdir())

    def id_of(self, name, folder):
        return name

    def splits(self, names):
        return None

    def content(self, folder, names):
        digest = hashlib.sha256()
        for name in names:
            digest.update(name.encode() + (folder / name).read_bytes())
        return digest.hexdigest()


class Broken(SourceContract):
    must_fail: ClassVar[set[str]] = set()
    Source: ClassVar[type[Source]] = Source

    @pytest.fixture(autouse=True)
    def _registered(self) -> Iterator[None]:
        SOURCES.register("test_broken")(self.Source().__call__)
        yield
        SOURCES.unregister("test_broken")

    def write(self, folder, images, labels, order, broken):
        for i in order:
            path = folder / f"{labels[i]}-{i:03d}.npy"
            if i in broken:
                path.write_bytes(b"no array")
            else:
                np.save(path, images[i])
        return DatasetConfig(name="test_broken", path=str(folder))


class TestSound(Broken):
    pass


class TestSameNames(Broken):
    """The name without its class: several images have it."""

    must_fail: ClassVar = {"test_ids_are_unique_and_stay"}

    class Source(Source):
        def id_of(self, name, folder):
            return name.partition("-")[2][:2]


class TestNumbersAsTheyCome(Broken):
    must_fail: ClassVar = {"test_ids_are_unique_and_stay"}
    numbers = itertools.count()

    class Source(Source):
        def id_of(self, name, folder):
            return f"{next(TestNumbersAsTheyCome.numbers)}"


class TestOneClassTooMany(Broken):
    must_fail: ClassVar = {"test_labels_are_classes"}

    class Source(Source):
        def __call__(self, config):
            found = super().__call__(config)
            return Listing(**{**vars(found), "classes": (*found.classes, found.classes[0])})


class TestSoundThree(Broken):
    """Training, validation and test."""

    class Source(Source):
        def splits(self, names):
            parts = ("train", "validation", "test", "train")
            return [parts[int(name.partition("-")[2][:3]) // 3] for name in names]


class TestDoubledInValidation(Broken):
    """Every image of the training under another name in the validation; the test is sound."""

    must_fail: ClassVar = {"test_splits_are_disjoint_and_whole"}

    class Source(TestSoundThree.Source):
        def __call__(self, config):
            found = super().__call__(config)
            train = [i for i, split in enumerate(found.splits) if split == "train"]
            return Listing(
                **{
                    **vars(found),
                    "ids": [*found.ids, *(f"./{found.ids[i]}" for i in train)],
                    "labels": [*found.labels, *(found.labels[i] for i in train)],
                    "splits": [*found.splits, *("validation" for _ in train)],
                }
            )


class TestOnlyTraining(Broken):
    """A listing with splits, none of which is held out."""

    must_fail: ClassVar = {"test_splits_are_disjoint_and_whole"}

    class Source(Source):
        def splits(self, names):
            return ["train"] * len(names)


class TestDoubled(Broken):
    """Every image under two names, one of which is in the test."""

    must_fail: ClassVar = {"test_splits_are_disjoint_and_whole"}

    class Source(Source):
        def __call__(self, config):
            found = super().__call__(config)
            return Listing(
                **{
                    **vars(found),
                    "ids": [*found.ids, *(f"./{name}" for name in found.ids)],
                    "labels": found.labels * 2,
                    "splits": ["train"] * len(found.ids) + ["test"] * len(found.ids),
                }
            )


class TestLosesTheLast(Broken):
    """Groups of equal size."""

    must_fail: ClassVar = {"test_groups_hold_every_image_once"}

    class Source(Source):
        class Reader(Reader):
            def groups(self, ids):
                return [ids[i : i + 4] for i in range(0, len(ids) - 3, 4)]


class TestAugments(Broken):
    must_fail: ClassVar = {"test_decoding_is_the_same_every_time"}

    class Source(Source):
        class Reader(Reader):
            def one(self, name):
                image = super().one(name)
                return image[:, ::-1] if torch.rand(()) < 0.5 else image


class TestOpenFile(Broken):
    must_fail: ClassVar = {"test_it_travels_to_a_worker"}

    class Source(Source):
        class Reader(Reader):
            def __init__(self, folder) -> None:
                super().__init__(folder)
                self.handle = next(iter(sorted(folder.iterdir()))).open("rb")


class TestOtherClass(Broken):
    """Classes in the order of their first image, labels in the alphabet's."""

    must_fail: ClassVar = {"test_images_and_labels_are_those_that_were_written"}

    class Source(Source):
        def __call__(self, config):
            found = super().__call__(config)
            return Listing(**{**vars(found), "classes": found.classes[::-1]})


class TestNamesAlone(Broken):
    must_fail: ClassVar = {"test_the_fingerprint_sees_every_pixel_and_label"}

    class Source(Source):
        def content(self, folder, names):
            return hashlib.sha256("".join(names).encode()).hexdigest()


class TestTimes(Broken):
    must_fail: ClassVar = {"test_the_fingerprint_sees_nothing_else"}

    class Source(Source):
        def content(self, folder, names):
            return str([(folder / name).stat().st_mtime_ns for name in names])


class TestPlaces(Broken):
    must_fail: ClassVar = {"test_the_fingerprint_sees_nothing_else"}

    class Source(Source):
        Reader: ClassVar = type(
            "Reader", (Reader,), {"one": lambda self, name: Reader.one(self, Path(name).name)}
        )

        def id_of(self, name, folder):
            return str(folder / name)


class TestAsListed(Broken):
    must_fail: ClassVar = {"test_the_order_of_the_listing_plays_no_part"}

    class Source(Source):
        def names(self, folder):
            return [
                path.name for path in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns)
            ]


class TestRaises(Broken):
    """One bad image ends the run."""

    must_fail: ClassVar = {"test_bad_images_are_counted_and_left_out"}

    class Source(Source):
        class Reader(Reader):
            def one(self, name):
                return np.load(self.folder / name)


class TestBlack(Broken):
    """One bad image is a black one."""

    must_fail: ClassVar = {"test_bad_images_are_counted_and_left_out"}

    class Source(Source):
        class Reader(Reader):
            def one(self, name):
                found = super().one(name)
                return np.zeros((8, 10, 3), np.uint8) if isinstance(found, Unreadable) else found
