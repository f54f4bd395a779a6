"""Keys in addresses: neither printed nor written, wherever they come from."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from attacks import Command, Ended
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save

from zoo_search.config import load_job
from zoo_search.core.errors import UserError
from zoo_search.core.files import write
from zoo_search.core.redaction import holds_key, redacted, redacted_values

PASSWORD, SIGNATURE = "pass-Zq81", "sig-Kx93"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("s3://KEY:SECRET@bucket/a/b.tar", "s3://***@bucket/a/b.tar"),
        ("s3://KEY:SEC/RET@bucket/a", "s3://***@bucket/a"),
        ("see https://u:p@h/y?X-Amz-Signature=abc&q=1).", "see https://***@h/y?***)."),
        ("https://token@host/x", "https://***@host/x"),
        ("zip://a.zip::https://k:s@h/x.zip?sig=z", "zip://a.zip::https://***@h/x.zip?***"),
        ("postgresql+psycopg://me:p@ss/w:rd@host:5432/x", "postgresql+psycopg://***@host:5432/x"),
        ("url: /x.bin?X-Amz-Signature=1&b=2 (Caused by)", "url: /x.bin?*** (Caused by)"),
        ("https://h/p#access_token=zz", "https://h/p#***"),
        ("/home/me/https:/u:SECRET@h/x.yaml is none", "/home/me/https:/***@h/x.yaml is none"),
    ],
)
def test_keys_are_hidden(given: str, shown: str) -> None:
    assert redacted(given) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "mysql://USER@HOST/NAME", "hf://datasets/org/name@main/x", "abfs://box@account/x",
        "github://org:repo@main/x", "sqlite:///study.db", "http://127.0.0.1:8265/",
        "http://host:8265/a@b", "at:/a@b/c:d@e",
        "Did you mean 'x'? y = 2", "me@example.org", "lite0[0,4) + b[4,7)",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


WORD = st.text("abcXYZ019-_.~%+=", min_size=1, max_size=12)
SECRET = st.text("abcXYZ019-_.~%+=:/@?", min_size=4, max_size=20)


@given(scheme=st.sampled_from(["s3", "https", "ftp", "redis"]), user=WORD, secret=SECRET)
@example(scheme="s3", user="K", secret="a/b@c?d")
def test_no_password_survives(scheme: str, user: str, secret: str) -> None:
    """Also one that holds signs which should have been escaped."""
    shown = redacted(f"{scheme}://{user}:{secret}@bucket/file.bin")
    # Where the password looks like a port and a path, nothing tells that it is none.
    start, slash, _ = secret.partition("/")
    if not (slash and (start.isdecimal() or not start)):
        assert shown == f"{scheme}://***@bucket/file.bin"


@given(key=WORD, secret=st.text("abcXYZ019-_~%+/", min_size=4, max_size=20))
def test_no_signature_survives(key: str, secret: str) -> None:
    shown = redacted(f"GET https://host/file?{key}={secret} failed")
    assert shown == "GET https://host/file?*** failed"


def test_nested_values_are_hidden_and_keys_stay() -> None:
    tree = {"a?b=c": ["s3://k:s@b", 1, None], "x": {"y": "https://h/?t=1"}}
    assert redacted_values(tree) == {"a?b=c": ["s3://***@b", 1, None], "x": {"y": "https://h/?***"}}


def test_an_error_never_quotes_a_key() -> None:
    assert str(UserError("Reading s3://K:S@b/x failed.")) == "Reading s3://***@b/x failed."


def test_the_job_of_a_run_directory_is_no_run_file(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: x\nzoo: {a: {arch: resnet10t, weights: 's3://***@b/x'}}\n")
    with pytest.raises(UserError, match="was hidden"):
        load_job(path)


@pytest.fixture(scope="module")
def signed() -> Iterator[str]:
    """The signed address of a file of weights behind a password, on this machine."""
    torch.manual_seed(0)
    data = save(timm.create_model("resnet10t", num_classes=10).state_dict())
    wanted = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers.get("Authorization") == wanted and SIGNATURE in self.path
            found = allowed and self.path.startswith("/w.safetensors")
            self.send_response(200 if found else 404 if allowed else 403)
            self.send_header("Content-Length", str(len(data) if found else 0))
            self.end_headers()
            if found and self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    yield f"http://me:{PASSWORD}@127.0.0.1:{port}/w.safetensors?sig={SIGNATURE}"
    server.shutdown()


@pytest.fixture
def call(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """A command with a run file that holds an address, and a HOME of its own."""

    def with_address(address: str, *words: str) -> Ended:
        job = {
            "name": "secret",
            "input_size": 32,
            "zoo": {"a": {"arch": "resnet10t", "kwargs": {"num_classes": 10}, "weights": address}},
            "dataset": {"name": "digits", "per_class": 5},
            "similarity": {"batch_size": 8, "limit": 16, "fraction": 1.0, "workers": 1},
        }
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(job))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        return command(*words)

    return with_address


def leaks(folder: Path, *told: str) -> list[str]:
    """Return where a secret can be read: files below a folder, not the user's own, and texts."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "own.yaml"]
    found = {str(p.relative_to(folder)): p.read_bytes() for p in files}
    found |= {f"text {number}": text.encode() for number, text in enumerate(told)}
    secrets = (PASSWORD.encode(), SIGNATURE.encode())
    return [name for name, data in found.items() if any(s in data for s in secrets)]


def test_a_zoo_is_listed_without_its_keys(
    signed: str, tmp_path: Path, call: Callable[..., Ended]
) -> None:
    done = call(signed, "zoo", "list", "own.yaml", "--json")
    assert done.code == 0, done.said
    assert '"weights": "http://***@127.0.0.1' in done.printed
    assert leaks(tmp_path, done.printed, done.said) == []


def test_what_cannot_be_fetched_is_told_without_its_keys(
    signed: str, tmp_path: Path, call: Callable[..., Ended]
) -> None:
    done = call(signed.replace("/w.", "/v."), "zoo", "list", "own.yaml")
    assert done.code == 2
    assert "/v.safetensors?*** cannot be read" in " ".join(done.said.split())
    assert leaks(tmp_path, done.printed, done.said) == []


@pytest.mark.slow
def test_a_run_directory_holds_no_keys(
    ray_cluster: None, signed: str, tmp_path: Path, call: Callable[..., Ended]
) -> None:
    done = call(signed, "similarity", "own.yaml", "--dir", "run")
    assert done.code == 0, done.said
    assert "http://***@127.0.0.1" in (tmp_path / "run/job.yaml").read_text()
    assert leaks(tmp_path, done.printed, done.said) == []


@pytest.mark.parametrize("words", [("data", "pack", "PLACE", "out"), ("dashboard", "PLACE")])
def test_an_archive_at_an_address_with_keys(
    command: Command, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """What fsspec opens at once it also fails at at once, quoting the address."""
    place = "zip://a.zip::http://u:SECRET@127.0.0.1:9/x.zip?sig=SECRET"
    ended = command(*(place if word == "PLACE" else word for word in words))
    assert ended.refused("***@127.0.0.1:9")
    assert "SECRET" not in ended.said


def test_storage_for_reading_alone_is_told_without_its_keys(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"\*\*\*@127.0.0.1:9/x cannot be written") as raised:
        write("http://u:SECRET@127.0.0.1:9/x", b"")
    assert "SECRET" not in str(raised.value)


def test_a_stack_trace_quotes_no_keys(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*given: object) -> None:
        raise RuntimeError(f"GET http://{'u:SECRET'}@h/x?sig={'SECRET'}: \x1b[2J")

    monkeypatch.setattr("zoo_search.config.load_job", fault)
    ended = command("submit", "job.yaml", "--address", "http://127.0.0.1:9")
    assert ended.code == 1
    assert "Traceback" in ended.said
    assert "RuntimeError: GET http://***@h/x?***: \\x1b[2J" in ended.said
    assert "\x1b" not in ended.said


def test_no_key_is_put_into_the_command_of_a_job(command: Command, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("{name: x, dataset: digits, zoo: {a: {arch: lcnet_050}}}")
    words = ("submit", job, "--address", "http://127.0.0.1:9")
    refused = command(*words, "--dir", "s3://KEY:SECRET@b/x")
    assert refused.refused("--dir: s3://***@b/x holds a key")
    refused = command(*words, "--set", "dataset.path=https://h/x?sig=SECRET")
    assert refused.refused("--set: dataset.path=https://h/x?*** holds a key")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("zoo.a.weights", "https://HOST/w.safetensors?X-Amz-Signature=SECRET"),
        ("zoo.a.weights", "https://HOST/w.safetensors?a=1&b=SECRET0123456789abcdef"),
        ("dataset.path", "s3://KEY:SECRET@bucket/images"),
        ("search.storage", "mysql://USER:SECRET@HOST/studies"),
        ("line 1", "s3://KEY:SECRET@bucket"),
    ],
)
def test_no_run_file_with_keys_travels_to_a_cluster(
    option: str, value: str, tmp_path: Path, command: Command
) -> None:
    job: dict[str, Any] = {
        "name": "x", "dataset": {"name": "folder", "path": "/images"}, "search": {},
        "zoo": {"a": {"arch": "lcnet_050", "weights": None}},
    }  # fmt: skip
    text = f"# kept in {value}\n"
    if not option.startswith("line"):
        section, *inner, last = option.split(".")
        place = job[section] if not inner else job[section][inner[0]]
        place[last], text = value, ""
    file = tmp_path / "job.yaml"
    file.write_text(text + yaml.safe_dump(job))
    ended = command("submit", file, "--address", "http://127.0.0.1:1", "--dir", "/runs/x")
    assert ended.refused(option, "environment", "job.yaml")
    assert "SECRET" not in ended.said


@pytest.mark.parametrize(
    "address",
    [
        "https://HOST/w.pth?download=true", "s3://bucket/images", "mysql://USER@HOST/x?charset=utf8",
        "mysql+pymysql://USER@HOST/x?read_default_file=/etc/my.cnf", "a plain word = another",
        "https://HOST/page#section",
    ],
)  # fmt: skip
def test_addresses_without_keys_travel(address: str) -> None:
    assert not holds_key(address)
