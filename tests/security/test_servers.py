"""Servers that send without end, or that nobody answers for."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attacks import Command
from PIL import Image

MB = 2**20


@contextmanager
def server(told: int | None) -> Iterator[str]:
    """Serve zeros without end, of which the header says so many, or nothing."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if told is not None:
                self.send_header("Content-Length", str(told))
            self.end_headers()
            try:
                while self.command == "GET":
                    self.wfile.write(bytes(MB))
            except OSError:
                pass  # they have gone

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}"
    finally:
        serving.shutdown()
        serving.server_close()
        thread.join()


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where copies lie: a disk of which 20 MB are free."""
    place = tmp_path / "copies"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    asked = shutil.disk_usage

    def usage(path: Any) -> Any:
        if not Path(path).is_relative_to(place):
            return asked(path)
        used = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        return SimpleNamespace(total=20 * MB, used=used, free=20 * MB - used)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return place


@pytest.mark.parametrize(("told", "words"), [(10**13, "it has 10000.0 GB"), (None, "came, and")])
def test_no_copy_fills_the_disk(
    told: int | None, words: str, copies: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "out.safetensors"
    with server(told) as address:
        for word in (f"lcnet_050@{address}/w.safetensors", f"{address}/w.safetensors"):
            ended = command("transfer", word, "lcnet_050", "--out", out)
            assert ended.refused(words, "w.safetensors", "free in"), ended
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
        assert command("predict", f"{address}/winner", tmp_path / "a.png").refused(words)
    assert not any(path.is_file() for path in copies.rglob("*"))


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_storage_that_nobody_answers_for_is_one_paragraph(
    tmp_path: Path, command: Command
) -> None:
    place = f"http://USER:SECRET@127.0.0.1:{closed_port()}/x?sig=SECRET"
    image = tmp_path / "images" / "a.png"
    image.parent.mkdir()
    Image.new("RGB", (8, 8)).save(image)
    job = tmp_path / "job.yaml"
    text = "name: x\ndataset: {name: %s, path: %r}\nzoo: {a: {arch: lcnet_050, weights: %s}}\n"
    job.write_text(text % ("folder", os.fspath(image.parent), "null"))
    for words in (
        ("data", "pack", place, tmp_path / "out"),
        ("init", place),
        ("predict", place, image),
        ("export", place, "--torch"),
        ("transfer", f"lcnet_050@{place}", "lcnet_050", "--out", tmp_path / "w.safetensors"),
        ("report", job, "--dir", place),
        ("status", place),
        ("zoo", "list", job, "--set", f"zoo.a.weights={place}"),
    ):
        ended = command(*words)
        assert ended.refused(), (words, ended)
        assert "SECRET" not in ended.said
        if words[0] == "status":
            assert "cannot be reached" in ended.said
