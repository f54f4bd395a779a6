"""What is told of images before they are used."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_images import write_images

from zoo_search.config import DatasetConfig, load_job
from zoo_search.core.errors import UserError
from zoo_search.data import VisionDataset, open_dataset
from zoo_search.data.checks.look import range_said
from zoo_search.data.checks.told import tell
from zoo_search.data.decode import DecodeError, to_rgb
from zoo_search.data.pack import pack


def opened(path: Path, **options: object) -> VisionDataset:
    return open_dataset(DatasetConfig(name="folder", path=str(path), **options))


def textured(root: Path, counts: dict[str, int], *, top: int = 255, kind: str = "uint8") -> None:
    """Write images of noise in coarse squares, values 0 to ``top``."""
    rng = np.random.default_rng(0)
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            values = rng.integers(0, top, (8, 8), endpoint=True).astype(kind).repeat(8, 0)
            ending = "png" if kind == "uint8" else "tif"
            Image.fromarray(values.repeat(8, 1)).save(root / folder / f"{i}.{ending}")


def test_good_images_are_told_without_a_note(tmp_path: Path) -> None:
    textured(tmp_path, {"a": 10, "b": 5})
    told = tell(opened(tmp_path))
    assert told.classes == ("a", "b")
    assert told.counts == {"train": (8, 4), "test": (2, 1)}
    assert told.notes == ()


def test_copies_between_splits_are_counted_and_three_named(tmp_path: Path) -> None:
    textured(tmp_path, {"train/a": 4, "train/b": 4})
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    (note,) = tell(opened(tmp_path)).notes
    assert note.startswith("8 of 8 held-out images are byte by byte those of another split")
    assert "val/a/0.png = train/a/0.png, val/a/1.png = train/a/1.png" in note
    assert "and 5 more" in note
    assert "dataset.dedupe: true" in note


def test_what_dedupe_left_out_is_told(tmp_path: Path) -> None:
    textured(tmp_path, {"train/a": 4, "train/b": 4, "val/a": 1, "val/b": 2})
    for name in ("a/0.png", "b/0.png"):
        shutil.copy(tmp_path / "train" / name, tmp_path / "val" / name)
    (note, lacking) = sorted(tell(opened(tmp_path, dedupe=True)).notes, reverse=True)
    assert "left images out that are in another split, too: 2 of the test" in note
    assert "1 classes have no test image" in lacking


def test_copies_that_were_encoded_anew_look_the_same(tmp_path: Path) -> None:
    textured(tmp_path, {"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 2})
    for file in tmp_path.rglob("*.png"):  # smooth, as photographs are
        with Image.open(file) as image:
            image.resize((8, 8), 0).resize((64, 64), Image.Resampling.BICUBIC).save(file)
    with Image.open(tmp_path / "train/a/0.png") as image:
        image.save(tmp_path / "val/a/again.jpg", quality=80)
        image.resize((150, 150), Image.Resampling.BICUBIC).save(tmp_path / "val/b/larger.png")
    (note,) = tell(opened(tmp_path)).notes
    assert note.startswith("2 held-out images look the same")
    assert "val/a/again.jpg = train/a/0.png" in note


def test_12_bits_in_16_are_told_and_read_with_their_range(tmp_path: Path) -> None:
    textured(tmp_path, {"a": 5, "b": 5}, top=4095, kind="uint16")
    stored, dark = tell(opened(tmp_path)).notes
    assert "run from 1 to 4088" in stored
    assert "dataset.value_range: [0, 4095]" in stored
    assert dark.startswith("The images are nearly black (mean 8 of 255")
    ranged = opened(tmp_path, value_range=(0, 4095))
    assert tell(ranged).notes == ()
    images = ranged.select("train").load((64, 64)).images
    assert images.max() == 255
    assert 100 < images.float().mean() < 155
    assert ranged.fingerprint != opened(tmp_path).fingerprint
    narrow = tell(opened(tmp_path, value_range=(0, 1023))).notes
    assert any("1023 as white, what is beyond is cut" in note for note in narrow)


@pytest.mark.parametrize("resize", [None, 16])
def test_a_pack_keeps_the_range(tmp_path: Path, resize: int | None) -> None:
    textured(tmp_path / "in", {"a": 2, "b": 2}, top=4095, kind="uint16")
    config = DatasetConfig(name="folder", path=str(tmp_path / "in"), value_range=(0, 4095))
    done = pack(config, tmp_path / "out", resize=resize)
    images = open_dataset(done.dataset).select("train").load((16, 16)).images
    assert images.float().mean() > 100


@pytest.mark.parametrize(
    ("values", "value_range", "expected"),
    [
        (np.array([[0, 4095, 2048, 65535]], np.uint16), (0, 4095), [0, 255, 128, 255]),
        (np.array([[-100, 0, 100, 900]], np.int32), (-100, 100), [0, 128, 255, 255]),
        (np.array([[0.0, 0.5, 1.0, np.nan]], np.float32), (0, 1), [0, 128, 255, 0]),
        (np.array([[0, 7, 200, 255]], np.uint8), (0, 7), [0, 7, 200, 255]),
        (np.arange(0, 65536, 257, dtype=np.uint16)[None], (0, 65535), list(range(256))),
    ],
)
def test_a_range_is_black_to_white(
    values: np.ndarray, value_range: tuple[float, float], expected: list[int]
) -> None:
    image = to_rgb(Image.fromarray(values), value_range=value_range)
    assert np.asarray(image)[0, :, 0].tolist() == expected


def deep_png(value: int, side: int = 4) -> bytes:
    """Write a PNG of colour with 16 bits a channel, which PIL reads and does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    rows = (b"\0" + struct.pack(">H", value) * 3 * side) * side
    head = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_deep_colour_has_no_range() -> None:
    data = deep_png(4095)
    assert np.asarray(to_rgb(data)).max() == 15
    with pytest.raises(DecodeError, match="16 bits a channel"):
        to_rgb(data, value_range=(0, 4095))


@pytest.mark.parametrize("given", [[4095, 0], [0, 0], [0], [0, float("inf")], 4095])
def test_a_range_that_is_none_is_refused_when_read(given: object) -> None:
    dataset = {"name": "digits", "value_range": given}
    with pytest.raises(UserError, match="value_range"):
        load_job({"name": "x", "zoo": {"m": {"arch": "x"}}, "dataset": dataset})


def test_a_range_is_said_in_whole_bits() -> None:
    said = {4095: 4095, 4096: 8191, 1: 1, 1000: 1023, 0.7: 1, 70000: 131071}
    for high, white in said.items():
        assert range_said((0, high)) == f"[0, {white}]"
    assert range_said((-20, 900)) == "[-20, 1023]"


def test_black_and_constant_classes_are_named(tmp_path: Path) -> None:
    textured(tmp_path, {"good": 5})
    textured(tmp_path, {"dark": 5}, top=12)
    write_images(tmp_path, {"plain": 5})
    for file in (tmp_path / "plain").iterdir():
        Image.new("RGB", (8, 8), (200, 200, 200)).save(file)
    dark, flat = tell(opened(tmp_path)).notes[-2:]
    assert dark.startswith("The images of 'dark' are nearly black")
    assert flat.startswith("The images of 'plain' are nearly constant")


def test_classes_of_very_different_size_are_told(tmp_path: Path) -> None:
    textured(tmp_path, {"many": 50, "few": 3})
    (note,) = tell(opened(tmp_path)).notes
    assert "40 training images of 'many', 2 of 'few'" in note


def test_where_nothing_can_be_decoded_the_counts_are_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            (tmp_path / name / f"{i}.png").write_bytes(b"no image %d" % i)
    assert tell(opened(tmp_path)).counts == {"train": (2, 2), "test": (1, 1)}


def test_files_that_are_no_images_do_not_end_the_look(tmp_path: Path) -> None:
    textured(tmp_path, {"a": 3, "b": 3})
    for name in ("a/x.png", "b/y.png"):
        (tmp_path / name).write_bytes(b"no image")
    assert tell(opened(tmp_path)).counts["train"] == (3, 3)
