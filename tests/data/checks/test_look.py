"""What a look at some images finds: sizes, kinds, and what cannot be decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from zoo_search.config import DatasetConfig
from zoo_search.data import open_dataset
from zoo_search.data.checks.look import look


def test_sizes_and_kinds_of_images_and_what_is_none(tmp_path: Path) -> None:
    made = {
        "a/colour.png": Image.new("RGB", (40, 30), (200, 10, 10)),
        "a/clear.png": Image.new("RGBA", (8, 9), (1, 2, 3, 100)),
        "a/palette.gif": Image.new("P", (10, 20)),
        "b/grey.png": Image.new("L", (16, 12), 90),
        "b/deep.tif": Image.fromarray(np.full((6, 7), 3000, np.uint16)),
        "b/upright.jpg": Image.new("RGB", (32, 16)),
    }
    for name, image in made.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6  # lies on its side
        image.save(path, **({"exif": exif} if name == "b/upright.jpg" else {}))
    (tmp_path / "a" / "bad.png").write_bytes(b"no image")
    dataset = open_dataset(DatasetConfig(name="folder", path=str(tmp_path)))
    seen = look(dataset)
    ids = dataset.index["id"].to_pylist()
    sides = {ids[at]: tuple(side) for at, side in zip(seen.at, seen.sides.tolist(), strict=True)}
    assert sides == {
        "a/colour.png": (40, 30), "a/clear.png": (8, 9), "a/palette.gif": (10, 20),
        "b/grey.png": (16, 12), "b/deep.tif": (7, 6), "b/upright.jpg": (16, 32),
    }  # fmt: skip
    assert seen.kinds == {
        "colour": 3, "colour with transparency": 1, "grey": 1, "grey of more than 8 bits": 1
    }  # fmt: skip
    assert seen.bad == {"a/bad.png": "not an image of a known format"}
