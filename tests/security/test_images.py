"""Images that start programs, ask for gigabytes, or never end: each is a bad image, by name."""

from __future__ import annotations

import importlib
import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from attacks import Command
from PIL import Image
from small_images import png

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.core.foreign.jpeg import scans
from zoo_search.data import DecodeError, View, decode, open_dataset
from zoo_search.data.decode import MAX_PIXELS, formats, to_rgb
from zoo_search.data.encode import encoded
from zoo_search.data.sources.folder import EXTENSIONS
from zoo_search.data.sources.guarded import guarded_pil

VIEW = View(size=(8, 8))


def eps() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(sink, "EPS")
    return sink.getvalue()


def bomb(side: int) -> bytes:
    """Return a black PNG [side, side] RGBA; its bytes compress a thousandfold."""
    pack, row = zlib.compressobj(9), bytes(1 + 4 * side)
    data = b"".join(pack.compress(row) for _ in range(side)) + pack.flush()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture
def ghostscript(tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name on the path, which says that it was started."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 10.0\ntouch {marker}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    return program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of good images."""
    for name in ("ant", "bee"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(4):
            (tmp_path / "images" / name / f"{i}.png").write_bytes(png(i))
    return tmp_path / "images"


@pytest.mark.usefixtures("ghostscript")
def test_the_attack_is_real(marker: Path) -> None:
    with pytest.raises(OSError, match=r".*"), Image.open(io.BytesIO(eps())) as image:
        image.load()
    assert marker.exists()


@pytest.mark.usefixtures("ghostscript")
@pytest.mark.parametrize("resize", [(), ("--resize", 4)])
def test_no_image_starts_ghostscript(
    command: Command, folder: Path, marker: Path, resize: tuple[object, ...]
) -> None:
    (folder / "ant" / "evil.png").write_bytes(eps())
    ended = command("data", "pack", folder, folder.parent / "out", *resize)
    assert ended.refused("ant/evil.png (not an image of a known format", "max_bad")
    assert not marker.exists()


@pytest.mark.usefixtures("ghostscript")
def test_no_image_of_another_library_does(command: Command, tmp_path: Path, marker: Path) -> None:
    """torchvision opens its files itself: the same limits hold there."""
    for part in ("train", "val"):
        for name in torchvision.datasets.Imagenette._WNID_TO_CLASS:
            place = tmp_path / "images" / "imagenette2" / part / name
            place.mkdir(parents=True)
            (place / f"{name}_0.JPEG").write_bytes(eps())
    out = tmp_path / "out"
    ended = command("data", "pack", tmp_path / "images", out, "--name", "torchvision:Imagenette")
    assert ended.refused("the image train/0", "cannot be decoded")
    assert not marker.exists()
    assert "EPS" in Image.OPEN  # outside, PIL stays as it was
    with Image.open(io.BytesIO(eps())) as image:
        assert image.format == "EPS"
    with pytest.raises(DecodeError), guarded_pil(63):
        Image.open(io.BytesIO(picture("PNG")))


def picture(kind: str) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(sink, kind)
    return sink.getvalue()


def test_every_ending_has_its_format_and_no_other_format_is_read() -> None:
    promised = {Image.registered_extensions()[e] for e in EXTENSIONS if e != ".jfif"}
    assert set(formats()) == promised & set(Image.OPEN)
    for kind in formats():
        assert decode(picture(kind), VIEW).shape == (3, 8, 8)
    for kind in sorted((set(Image.SAVE) & set(Image.OPEN)) - set(formats())):
        try:
            data = picture(kind)
        except Exception:  # formats of another kind of pictures, or that need a handler
            continue
        for read in (to_rgb, encoded):
            with pytest.raises(DecodeError, match="known format"):
                read(data)


def test_a_picture_of_gigabytes_is_refused_by_its_header(command: Command, folder: Path) -> None:
    side = 10_001
    data = bomb(side)
    assert len(data) < 500_000
    assert side**2 > MAX_PIXELS
    (folder / "ant" / "bomb.png").write_bytes(data)
    ended = command("data", "pack", folder, folder.parent / "out")
    assert ended.refused("ant/bomb.png (10001 x 10001 pixels", "dataset.max_pixels: 100,000,000")


def test_the_limit_can_be_set(command: Command, folder: Path, tmp_path: Path) -> None:
    (folder / "ant" / "large.png").write_bytes(picture("PNG"))
    for name in ("ant", "bee"):
        for i in range(4):
            (folder / name / f"{i}.png").unlink()
            Image.new("L", (7, 9)).save(folder / name / f"{i}.png")
    job = tmp_path / "job.yaml"
    for limit, code in ((63, 2), (64, 0)):
        job.write_text(
            "{name: x, zoo: {a: {arch: resnet18}}, "
            f"dataset: {{name: folder, path: '{folder}', max_pixels: {limit}}}}}"
        )
        ended = command("data", "pack", job, tmp_path / str(limit))
        assert ended.code == code, ended.said
    config = DatasetConfig(name="folder", path=str(folder), max_pixels=63, max_bad=0.5)
    subset = open_dataset(config).select("train")
    assert len(subset.load((4, 4))) < len(subset) or "ant/large.png" not in subset.ids


@pytest.mark.parametrize("limit", [0, 178_956_971, 1e12])
def test_the_limit_has_a_limit(limit: float) -> None:
    with pytest.raises(ValueError, match="max_pixels"):
        DatasetConfig(name="folder", max_pixels=limit)  # type: ignore[arg-type]


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def door(path: Path) -> None:
    """A socket; its name would be too long for the system if it were whole."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(here)


SPECIAL = [pipe, device, door]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", SPECIAL)
def test_what_never_ends_is_no_image(
    command: Command, folder: Path, make: Callable[[Path], None]
) -> None:
    make(folder / "ant" / "x.png")
    ended = command("data", "pack", folder, folder.parent / "out")
    assert ended.refused("ant/x.png (no regular file")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", SPECIAL)
def test_nor_is_it_a_table_a_shard_or_a_list_of_classes(
    command: Command, folder: Path, make: Callable[[Path], None]
) -> None:
    packed, more = folder.parent / "packed", folder.parent / "more"
    assert command("data", "pack", folder, packed).code == 0
    for name in ("pack.json", "index.parquet", "classes.txt", "train-000001.tar"):
        kept = (packed / name).read_bytes() if (packed / name).exists() else None
        (packed / name).unlink(missing_ok=True)
        make(packed / name)
        ended = command("data", "pack", packed, more, "--name", "webdataset")
        assert ended.refused(name, "regular file"), ended.said
        (packed / name).unlink()
        if kept is not None:
            (packed / name).write_bytes(kept)
    (folder.parent / "tables").mkdir()
    make(folder.parent / "tables" / "x.parquet")
    ended = command("data", "pack", folder.parent / "tables", more, "--name", "parquet")
    assert ended.refused("x.parquet", "regular file")
    (folder / "imagenette2").mkdir()
    make(folder / "imagenette2" / "x.JPEG")
    ended = command("data", "pack", folder, more, "--name", "torchvision:Imagenette")
    assert ended.refused("imagenette2/x.JPEG", "regular file")


@pytest.mark.timeout(60)
def test_a_winners_folder_with_a_pipe_is_none(command: Command, tmp_path: Path) -> None:
    pipe(tmp_path / "config.json")
    assert command("export", tmp_path, "--torch").refused(str(tmp_path), "no exported network")


def test_an_image_that_becomes_a_pipe_is_bad_where_it_is_read(folder: Path) -> None:
    config = DatasetConfig(name="folder", path=str(folder), max_bad=0.0)
    subset = open_dataset(config).select("train")
    file = folder / subset.ids[0]
    file.unlink()
    pipe(file)
    with pytest.raises(UserError, match="no regular file"):
        subset.load((4, 4))


def test_a_pipe_that_an_index_of_another_library_names_is_bad(tmp_path: Path) -> None:
    """It lies beside the data set, where nobody has looked."""
    from zoo_search.data.decode import DecodeError
    from zoo_search.data.sources.guarded import guarded_pil

    os.mkfifo(tmp_path / "x.png")
    with guarded_pil(100), pytest.raises(DecodeError, match="a pipe"):
        Image.open(tmp_path / "x.png")


def progressive(scans: int) -> bytes:
    """A JPEG whose last scan, of some bytes, comes so many times."""
    stream = io.BytesIO()
    Image.new("L", (1000, 1000)).save(stream, "JPEG", progressive=True)
    whole = stream.getvalue()
    last = whole[whole.rfind(b"\xff\xda") : -2]
    return whole[: -2 - len(last)] + last * scans + b"\xff\xd9"


def test_no_jpeg_goes_over_its_pixels_thousands_of_times(tmp_path: Path) -> None:
    view = VIEW
    assert decode(progressive(1), view).shape == decode(progressive(50), view).shape
    bomb = progressive(100_000)
    assert len(bomb) < 2_000_000
    with pytest.raises(DecodeError, match="more than 100 scans"):
        decode(bomb, view)
    (tmp_path / "x.jpg").write_bytes(bomb)
    with pytest.raises(DecodeError, match="scans"), guarded_pil(10**8):
        Image.open(tmp_path / "x.jpg")


def test_scans_are_counted_in_the_image_alone() -> None:
    """Neither in what programs keep beside it, nor in pictures behind it."""
    beside = b"\xff\xe5\x13\x90" + b"\xff\xda" * 2503
    whole = progressive(3)
    assert scans(whole[:2] + beside + whole[2:] + whole * 20) == scans(whole) < 20


@pytest.mark.parametrize("size", [(2_000_000, 1), (1, 2_000_000)])
def test_no_image_has_rows_without_number(size: tuple[int, int]) -> None:
    stream = io.BytesIO()
    Image.new("L", size).save(stream, "PNG")
    with pytest.raises(DecodeError, match="a side of more than"):
        decode(stream.getvalue(), VIEW)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "I;16"])
def test_bands_of_rows_are_one_picture(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 48, 4), dtype=np.uint8)
    image = Image.fromarray(noise)
    image = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    stream = io.BytesIO()
    image.save(stream, "TIFF" if mode == "I;16" else "PNG" if mode != "PA" else "TIFF")
    at_once = to_rgb(stream.getvalue())
    monkeypatch.setattr(importlib.import_module("zoo_search.data.decode"), "_BAND", 100)
    assert np.array_equal(to_rgb(stream.getvalue()), at_once)
