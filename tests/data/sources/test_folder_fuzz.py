"""Folders of any shape: a data set or a paragraph, never a stack trace."""

from __future__ import annotations

import os
import random
import shutil
import warnings
from pathlib import Path

import pytest
from PIL import Image

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import Note, UserError
from zoo_search.data import open_dataset
from zoo_search.data.checks.told import tell

NAMES = [
    b"train", b"Train", b"TRAINING", b"tr", b"val", b"valid", b"dev", b"test", b"Testing", b"eval",
    b"cat", b"dog", b"ch\xefen", b"\xff\xfe", b"a b", b"x.png", b".hidden", b"\\xe9", b"new\nline",
]  # fmt: skip
OPTIONS = [
    {}, {"per_class": 1}, {"per_class": 3}, {"limit": 1}, {"fraction": 0.1}, {"dedupe": True},
    {"splits": {"drawn": True}}, {"splits": {"train": "train", "test": "test"}},
    {"value_range": (0, 10)}, {"max_pixels": 3}, {"max_bad": 1.0},
]  # fmt: skip


def grow(folder: bytes, chance: random.Random, images: list[bytes], depth: int = 0) -> None:
    """Make folders, files and links of any kind."""
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    for name in chance.sample(NAMES, chance.randint(0, 4 if depth else 5)):
        path = folder + b"/" + name
        kind = chance.random()
        if kind < 0.03:
            to = chance.choice([b".", b"..", b"nowhere", b"../train", name, b"cat"])
            os.symlink(to, path)  # noqa: PTH211
        elif depth < 2 and kind < 0.95:
            grow(path, chance, images, depth + 1)
        else:
            Path(os.fsdecode(path)).write_bytes(b"x")
    for i in range(chance.randint(1, 3) if depth else 0):
        path = Path(os.fsdecode(folder + b"/%d" % i + chance.choice((b".png", b"\xe9.PNG"))))
        path.write_bytes(chance.choice(images))


@pytest.mark.slow
def test_every_folder_is_a_data_set_or_a_paragraph(tmp_path: Path) -> None:
    images = [b"", b"no image"]
    for mode, colour in (("RGB", (9, 8, 7)), ("L", 200), ("I;16", 4000), ("F", 0.5)):
        path = tmp_path / "x.tif"
        Image.new(mode, (4, 4), colour).save(path)
        images += [path.read_bytes()] * 4
    opened = refused = 0
    for seed in range(300):
        chance = random.Random(seed)
        root = tmp_path / "tree"
        grow(os.fsencode(root), chance, images)
        config = DatasetConfig(name="folder", path=str(root), **chance.choice(OPTIONS))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Note)
                dataset = open_dataset(config)
                for note in tell(dataset).notes:
                    note.encode()
                dataset.select("train").load((8, 8))
            opened += 1
        except UserError as error:
            str(error).encode()
            refused += 1
        shutil.rmtree(root)
    assert opened > 10
    assert refused > 20
