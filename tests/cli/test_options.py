"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from zoo_search.cli.options import Place, grouped, run_directory, write_picture
from zoo_search.core.errors import UserError


@dataclass(frozen=True)
class Sizes:
    width: Annotated[int | None, typer.Option("-w", "--width", help="How wide.")] = None
    tall: Annotated[bool, typer.Option(help="How high.")] = False


def command() -> typer.Typer:
    app = typer.Typer(add_completion=False)

    @app.command()
    @grouped
    def draw(*, name: str = "x", sizes: Sizes, place: Place, loud: bool = False) -> None:
        """Draw it."""
        print([name, sizes, place, loud])

    return app


def test_fields_of_a_group_are_options_in_its_place() -> None:
    draw = typer.main.get_command(command())
    options = [option for parameter in draw.params for option in parameter.opts]
    assert options == [
        "--name",
        "-w",
        "--width",
        "--tall",
        "--dir",
        "--address",
        "--seed",
        "--loud",
    ]
    assert draw.help == "Draw it."


def test_a_command_gets_its_groups_back() -> None:
    done = CliRunner().invoke(command(), ["-w", "3", "--dir", "runs/a", "--loud"])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(["x", Sizes(3, False), Place("runs/a"), True])
    done = CliRunner().invoke(command(), [])
    assert done.stdout.strip() == str(["x", Sizes(), Place(), False])


def test_a_run_is_named_by_its_directory_its_file_or_the_option(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("name: pets\nzoo: {m: {arch: resnet18}}\ndataset: digits\n", encoding="utf-8")
    assert run_directory("runs/a", None, "dashboard") == "runs/a"
    assert run_directory(None, "s3://b/a", "dashboard") == "s3://b/a"
    assert run_directory(str(job), None, "dashboard") == "runs/pets"
    assert run_directory(str(job), "runs/b", "dashboard") == "runs/b"
    with pytest.raises(UserError, match=r"runs/a and --dir runs/b name two run directories"):
        run_directory("runs/a", "runs/b", "dashboard")
    with pytest.raises(UserError, match=r"zoo-search dashboard needs a run: .* or --dir"):
        run_directory(None, None, "dashboard")


def test_a_picture_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    write_picture(tmp_path / "new" / "p.png", b"picture")
    assert (tmp_path / "new" / "p.png").read_bytes() == b"picture"
    with pytest.raises(UserError, match=r"cannot be written \(.*--png"):
        write_picture(tmp_path / "new" / "p.png" / "below.png", b"")
