"""Data sets of the ``datasets`` library that name other files and addresses than their own."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from attacks import Command
from PIL import Image

datasets = pytest.importorskip("datasets")


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and what it was asked for."""
    paths: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/x.png", paths
    server.shutdown()
    thread.join()
    server.server_close()


def folder(path: Path, address: str, extra: str = "extra", named: bool = False) -> Path:
    """A data set with images, and a column of images that lie at an address."""
    picture = {"bytes": b"", "path": None}
    columns = {
        "image": [picture | {"bytes": _png(i)} for i in range(24)],
        extra: [{"bytes": None, "path": address}] * 24,
    }
    features = {"image": datasets.Image(), extra: datasets.Image()}
    if not named:
        columns["label"] = [i % 2 for i in range(24)]
        features["label"] = datasets.ClassLabel(names=["a", "b"])
    data = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    datasets.DatasetDict({"train": data}).save_to_disk(str(path))
    return path


def _png(seed: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_other_columns_of_images_are_not_opened(
    command: Command, tmp_path: Path, asked: tuple[str, list[str]]
) -> None:
    address, paths = asked
    place = folder(tmp_path / "set", address)
    paths.clear()  # the library asked for the size
    ended = command("data", "pack", place, tmp_path / "out", "--name", "hf:x")
    assert ended.code == 0, ended.said
    assert paths == []


def test_labels_that_are_images_are_not_opened(
    command: Command, tmp_path: Path, asked: tuple[str, list[str]]
) -> None:
    address, paths = asked
    place = folder(tmp_path / "set", address, extra="label", named=True)
    paths.clear()
    ended = command("data", "pack", place, tmp_path / "out", "--name", "hf:x")
    assert ended.refused("no image or no label column")
    assert paths == []


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("ending", ["arrow", "dat"])
def test_a_part_is_looked_at_whatever_it_is_called_and_lies_inside(
    command: Command, tmp_path: Path, inside: bool, ending: str, asked: tuple[str, list[str]]
) -> None:
    place = folder(tmp_path / "set", asked[0])
    (part,) = (place / "train").glob("*.arrow")
    target = (place / "train" if inside else tmp_path) / f"part.{ending}"
    target.write_bytes(b"no Arrow file at all" if inside else part.read_bytes())
    part.unlink()
    index = place / "train/state.json"
    said = json.loads(index.read_text())
    said["_data_files"] = [{"filename": f"{'' if inside else '../../'}part.{ending}"}]
    index.write_text(json.dumps(said))
    ended = command("data", "pack", place, tmp_path / "out", "--name", "hf:x")
    assert ended.refused("no Arrow file" if inside else "names files that are not in it")


def test_a_split_lies_inside(
    command: Command, tmp_path: Path, asked: tuple[str, list[str]]
) -> None:
    folder(tmp_path / "other", asked[0])
    place = tmp_path / "set"
    place.mkdir()
    (place / "dataset_dict.json").write_text(json.dumps({"splits": ["../other/train"]}))
    ended = command("data", "pack", place, tmp_path / "out", "--name", "hf:x")
    assert ended.refused("../other/train/state.json")
