"""``zoo-search init``: a run file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo_search.cli.options import say
from zoo_search.core.errors import UserError
from zoo_search.core.redaction import shown


def init(
    folder: Annotated[
        str, typer.Argument(help="Folder of images that holds a folder for each class; or its URI.")
    ],
    out: Annotated[Path | None, typer.Option(help="The file to write [NAME.yaml].")] = None,
    zoo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="A model of the zoo: a timm name, or NAME@FILE; as often as you like [those that "
            "suit the images and this machine].",
        ),
    ] = None,
    splits: Annotated[
        str | None,
        typer.Option(
            help="Which folders are the splits, as dataset.splits: drawn (none), or "
            "'{train: NAME, test: NAME}' [by their usual names]."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the run.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a run file to start from, for a folder of images, with the reasons in comments.

    Images, machine and models are looked up; no weights are fetched.
    """
    from zoo_search.run.draft.images import name_of
    from zoo_search.run.draft.make import draft

    path = out or Path(f"{name_of(folder)}.yaml")
    if not force:
        _check_free(path)  # before anything is looked up
    found = draft(folder, path, zoo or (), splits, seed)
    _write(path, found.text, force)
    for line in found.notes:
        say(f"note: {line}")
    print(shown("\n".join([*found.found, f"written to {path}; look at it, then:"])))
    print(shown(f"  zoo-search rank {path}\n  zoo-search run {path}"))


def _check_free(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise UserError(
            f"{path} is there already, and nothing is overwritten. Write elsewhere with --out, or "
            "over it with --force."
        )


def _write(path: Path, text: str, force: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        if isinstance(error, FileExistsError) and not force:
            _check_free(path)  # somebody was faster
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}). Give --out the path of a file "
            "in a folder that you may write to."
        ) from None
