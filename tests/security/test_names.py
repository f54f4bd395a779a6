"""Names that mean something elsewhere: to file systems, terminals, pictures, Markdown and HTML."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from attacks import Command
from markdown_it import MarkdownIt
from PIL import Image

from zoo_search.cli.tables import show
from zoo_search.config import load_job
from zoo_search.core.errors import UserError
from zoo_search.core.progress import console, progress
from zoo_search.core.tables import Table
from zoo_search.core.tables import text as words
from zoo_search.data.sources.libraries import LibraryReader
from zoo_search.data.sources.listing import Unreadable
from zoo_search.export.model_card import plain
from zoo_search.plots.style import new_figure, render
from zoo_search.similarities.passes.grams import FOLDER, folder_of

HOSTILE = (
    "cats[/v2]", "[bold]x", "a$_$b", "$\\frac$", "<script>alert(1)</script>", "a|b", "*x*", "_x_",
    "`x`", "[x](javascript:alert(1))", "&lt;", "# x", "~~x~~", ":smile:", "tf_efficientnet_lite0",
)  # fmt: skip


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", " a", "a\nb", "x" * 101])
def test_names_that_leave_their_folder_are_refused(name: str) -> None:
    job = {"name": "x", "zoo": {name: {"arch": "resnet10t"}}, "dataset": "digits"}
    with pytest.raises(UserError, match="the name"):
        load_job(job)


@pytest.mark.parametrize("name", HOSTILE)
def test_other_names_are_taken(name: str) -> None:
    if "/" not in name and "\\" not in name:
        job = {"name": "x", "zoo": {name: {"arch": "resnet10t"}}, "dataset": "digits"}
        assert list(load_job(job).zoo) == [name]


@pytest.mark.parametrize("name", ["..", ".", "../../x", "a/b", "/x"])
def test_no_gram_lies_outside_of_its_folder(name: str) -> None:
    place = folder_of(name)
    inside = Path("/run", place).resolve()
    assert inside.parent == Path("/run", FOLDER)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_terminal_shows_names_as_they_are(name: str) -> None:
    with console.capture() as shown:
        console.print(f"left out: {name}", soft_wrap=True)
    assert shown.get() == f"left out: {name}\n"


@pytest.mark.parametrize("name", HOSTILE)
def test_progress_shows_names_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with progress(name, 1) as bar:
        bar.advance(note=name)
    assert f"  {name}: 1/1" in capsys.readouterr().err


@pytest.mark.parametrize("name", HOSTILE)
def test_pictures_show_names_as_they_are(name: str) -> None:
    figure, axes = new_figure(4, 1)
    axes.set_title(name)
    axes.set_xlabel(name)
    seen = np.asarray(Image.open(io.BytesIO(render(figure, "png"))).convert("L"))
    other, same = new_figure(4, 1)
    for text in (same.title, same.xaxis.label):
        text.set_parse_math(False)
    same.set_title(name)
    same.set_xlabel(name)
    assert np.array_equal(
        seen, np.asarray(Image.open(io.BytesIO(render(other, "png"))).convert("L"))
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_shows_names_as_they_are(name: str) -> None:
    """As CommonMark reads it: text alone, and no element of its own."""
    tokens = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .parse(f"| a |\n| --- |\n| {plain(name)} |\n\nx {plain(name)} y")
    )
    inline = [token for token in tokens if token.type == "inline"][1:]
    assert [token.children is not None and len(inline) == 2 for token in inline] == [True, True]
    for token, wanted in zip(inline, (name, f"x {name} y"), strict=True):
        kinds = {child.type for child in token.children or ()}
        assert kinds <= {"text", "text_special"}
        assert "".join(child.content for child in token.children or ()) == wanted


def test_a_row_opens_no_file_of_its_own_choosing(tmp_path: Path) -> None:
    inside, outside = tmp_path / "set" / "a.png", tmp_path / "b.png"
    inside.parent.mkdir()
    for path in (inside, outside):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    (tmp_path / "set" / "link.png").symlink_to(outside)
    named = [
        str(inside), str(outside), f"file://{outside}", str(inside.parent / "../b.png"),
        str(tmp_path / "set/link.png"), "http://127.0.0.1:9/x.png", "/dev/zero",
    ]  # fmt: skip
    rows = [{"image": {"bytes": None, "path": path}} for path in named]
    reader = LibraryReader({"train": rows}, "image", [tmp_path / "set"])
    found = [data for _, data in reader.read([f"train/{i}" for i in range(len(rows))])]
    assert found[0] == inside.read_bytes()
    assert all(isinstance(data, Unreadable) for data in found[1:])


STEERING = ("\x1b[2J", "\x1b]0;title\x07", "\x9b2J", "a\rb", "a\bb", "\u202eab", "\udcff", "\x00")


@pytest.mark.parametrize("name", STEERING)
def test_no_name_steers_a_terminal(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with progress(name, 1) as bar:
        bar.advance(note=name)
    show(Table(name, [words("a")], [{"a": name}, {"a": [name]}]))
    said = capsys.readouterr()
    with console.capture() as shown:
        console.print(f"left out: {name}", soft_wrap=True)
    for each in (said.out, said.err, shown.get(), str(UserError(name))):
        assert name not in each
        assert each.replace("\n", "").isprintable()
        escape = "\\xff" if name == "\udcff" else name.encode("unicode_escape").decode()
        assert escape in each


@pytest.mark.parametrize("name", [b"\x1b[2J\x1b]0;title\x07.png", b"\xff.png"])
def test_names_of_images_are_told_so_that_nothing_is_steered(
    command: Command, tmp_path: Path, name: bytes
) -> None:
    """The names of images that cannot be decoded; one of them is no UTF-8."""
    for kind in ("a", "b"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for i in range(4):
            picture = Image.fromarray(np.full((4, 4), i, np.uint8))
            picture.save(tmp_path / "set" / kind / f"{i}.png")
    Path(os.fsdecode(os.fsencode(tmp_path / "set/a") + b"/" + name)).write_bytes(b"no image")
    ended = command("data", "pack", tmp_path / "set", tmp_path / "out")
    shown = "a/\\x1b[2J\\x1b]0;title\\x07.png" if b"\x1b" in name else "a/\\xff.png"
    assert ended.refused(shown)
    assert "\x1b" not in ended.said
