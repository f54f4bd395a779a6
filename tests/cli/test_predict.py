"""``zoo-search predict`` and ``zoo-search evaluate`` as a user calls them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))

from small_winner import JOB, Made, make_winner

from zoo_search.cli.app import app
from zoo_search.core.errors import UserError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_winner(tmp_path_factory.mktemp("winner"))


def call(*words: object) -> str:
    """Return what a command prints on standard output."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_predict(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, picture in enumerate(made.pictures(3)):
        picture.save(tmp_path / f"{place}.png")
    (tmp_path / "bad.png").touch()
    monkeypatch.chdir(tmp_path)
    table = call("predict", made.folder, ".")
    assert "2.png" in table
    assert "p(9)" in table
    assert "bad.png" not in table
    rows = json.loads(call("predict", made.folder, tmp_path, "--json", "--batch-size", 2))
    assert [Path(row["file"]).name for row in rows] == ["0.png", "1.png", "2.png"]
    assert rows[0]["probability"] == max(rows[0][f"p_{n}"] for n in range(10))
    assert call("predict", made.folder, tmp_path, "--out", tmp_path / "t.csv") == ""
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 4
    with pytest.raises(UserError, match=r"--out x\.txt"):
        call("predict", tmp_path / "no winner yet", tmp_path, "--out", "x.txt")


def test_evaluate(made: Made, tmp_path: Path) -> None:
    job, picture = tmp_path / "job.yaml", tmp_path / "new" / "m.png"
    job.write_text(yaml.safe_dump(JOB))
    words = ("evaluate", made.folder, "--data", job, "--set", "dataset.per_class=150")
    told = call(*words, "--picture", picture)
    assert "balanced accuracy" in told
    assert "expected calibration error" in told
    with Image.open(io.BytesIO(picture.read_bytes())) as drawn:
        assert drawn.format == "PNG"
    facts = json.loads(call(*words, "--json"))
    assert facts["images"] == 297
    assert f"{facts['accuracy']:.2%}" in told
    assert [row["class"] for row in facts["classes"]] == list("0123456789")
    assert sum(map(sum, facts["confusion"])) == 297
    with pytest.raises(UserError, match=r"--picture m\.svg: pictures are written as PNG"):
        call(*words, "--picture", "m.svg")


def test_a_run_file_names_what_lies_beside_it(made: Made, tmp_path: Path) -> None:
    (tmp_path / "beside_a_run_file.py").write_text(
        "from zoo_search.data.sources.arrays import digits\n", encoding="utf-8"
    )
    job = tmp_path / "job.yaml"
    dataset = {**JOB["dataset"], "name": "module:beside_a_run_file:digits"}
    job.write_text(yaml.safe_dump({**JOB, "dataset": dataset}))
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(JOB))
    facts = json.loads(call("evaluate", made.folder, "--data", job, "--json"))
    alone = json.loads(call("evaluate", made.folder, "--data", tmp_path / "plain.yaml", "--json"))
    assert facts["confusion"] == alone["confusion"]
