"""What the words of ``zoo-search transfer`` may mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from zoo_search.cli.app import app
from zoo_search.cli.transfer import transfer
from zoo_search.core.errors import UserError


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    save_file(timm.create_model("lcnet_050").state_dict(), path)
    return path


Captured = pytest.CaptureFixture[str]


def filled(capsys: Captured) -> tuple[bool, bool]:
    """Whether the last transfer filled any layer of the target, and whether it filled all whole."""
    rows = json.loads(capsys.readouterr().out)
    return any(row["copied"] for row in rows), all(
        row["reason"] is None and row["copied"] == row["total"] for row in rows
    )


def test_a_file_is_written_and_read_again(weights: Path, tmp_path: Path, capsys: Captured) -> None:
    """The written file says what it is: the same architecture takes everything from it."""
    one, two, png = tmp_path / "1.safetensors", tmp_path / "2.safetensors", tmp_path / "m.png"
    transfer(f"lcnet_050@{weights}", "mobilenetv3_small_050", one, png=png, as_json=True)
    assert filled(capsys) == (True, False)
    assert png.read_bytes().startswith(b"\x89PNG")
    transfer(str(one), "mobilenetv3_small_050", two, as_json=True)
    assert filled(capsys) == (True, True)
    first, second = load_file(one), load_file(two)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_target_from_a_file_keeps_what_is_not_filled(
    weights: Path, tmp_path: Path, capsys: Captured
) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    transfer(f"lcnet_050@{weights}", "resnet10t", one)
    before = load_file(one)
    capsys.readouterr()
    transfer(f"lcnet_050@{weights}", str(one), two, as_json=True)
    assert not filled(capsys)[1]
    after = load_file(two)
    assert all(torch.equal(before[name], after[name]) for name in before)  # twice is once


def test_a_file_without_an_architecture_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ARCH@"):
        transfer(str(weights), "resnet10t", tmp_path / "out.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a safetensors file"):
        transfer(str(tmp_path / "bad.safetensors"), "resnet10t", tmp_path / "out.safetensors")


def test_unknown_operators_leave_no_file(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(UserError, match="Did you mean 'magnitude'"):
        transfer(f"lcnet_050@{weights}", "resnet10t", out, operator="magnitud")
    assert not out.exists()


def test_transfer_writes_weights_that_fit_the_target(tmp_path: Path) -> None:
    """Between two models of a run file; the similarity of an architecture with itself is 1."""
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "job.yaml").write_text(
        "name: a\ndataset: digits\nzoo:\n"
        f"  small: {{arch: resnet10t, weights: {tmp_path / 'w.safetensors'}}}\n"
        "  large: {arch: resnet14t, weights: null}\n",
        encoding="utf-8",
    )
    out = tmp_path / "out.safetensors"
    words = ["small", "large", "--out", str(out), "--job", str(tmp_path / "job.yaml"), "--json"]
    done = CliRunner().invoke(app, ["transfer", *words])
    assert done.exit_code == 0, done.output
    pairs = json.loads(done.stdout)
    assert any(pair["score"] == 1 for pair in pairs)
    timm.create_model("resnet14t").load_state_dict(load_file(out), strict=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("resnet10t@{0}", "resnet10t", "--out", "{0}"), "is read from this file"),
        (("small", "resnet10t", "--job", "{1}", "--out", "{0}"), "is read from this file"),
        (("resnet10t@{0}", "resnet10t", "--out", "w.bin"), "--out w.bin.*ends in .safetensors"),
        (("resnet10t@{0}", "resnet10t", "--out", "{2}", "--png", "m.jpg"), "--png m.jpg.*in .png"),
        (("gone.safetensors", "resnet10t", "--out", "{2}"), "no file or folder 'gone.saf"),
        (("smal", "resnet10t", "--job", "{1}", "--out", "{2}"), r"zoo \(small\)\. Did you"),
    ],
)  # fmt: skip
def test_transfer_writes_over_nothing_it_reads(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    weights, job, out = (tmp_path / n for n in ("w.safetensors", "job.yaml", "out.safetensors"))
    save_file(timm.create_model("resnet10t").state_dict(), weights)
    entry = f"{{arch: resnet10t, weights: {weights}}}"
    job.write_text(f"name: a\ndataset: digits\nzoo: {{small: {entry}}}\n", encoding="utf-8")
    before = weights.read_bytes()
    source, target, *rest = (word.format(weights, job, out) for word in words)
    options = dict(zip(rest[::2], map(Path, rest[1::2]), strict=True))
    with pytest.raises(UserError, match=message):
        transfer(source, target, options["--out"], options.get("--job"), png=options.get("--png"))
    assert weights.read_bytes() == before
    assert not out.exists()
