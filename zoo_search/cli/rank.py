"""``zoo-search rank``: which model suits the images as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo_search.cli.options import Address, AsJson, Change, RunFile, Seed
from zoo_search.cli.tables import paragraph, show
from zoo_search.core.errors import UserError
from zoo_search.core.tables import Row, Table, giga, mega, number, text

if TYPE_CHECKING:
    from zoo_search.config import JobConfig


_WITHOUT_A_FILE = {
    ".weights: ": "Here, a model with weights of a file is NAME@FILE.",
    "search.batch_size": "Here: --set search.batch_size=8, or the like.",
    "dataset.splits": "Here: --set dataset.splits=drawn, or the like.",
}
"""How to say without a run file what a message wants to be changed there."""


def rank(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="JOB.yaml | MODEL...",
            help="The run file, whose zoo is ranked; or, with --images, names of timm, each with "
            "its pre-trained weights (NAME@FILE: with those of a file).",
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="Folder of images, a folder for each class: no run file is needed."),
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(help="With --images: height and width of what models see [each its own]."),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT=VALUE",
            help="With --images: a limit of the section 'budget' of run files, as in --budget "
            "max_macs=5e9; as often as you like.",
        ),
    ] = None,
    change: Change = None,
    proxy: Annotated[str, typer.Option(help="Training-free score to rank by.")] = "probe",
    address: Address = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Rank models on your images without training, each with an expected accuracy.

    Models within the budget come first. MACs are multiply-adds for one image, in G (10^9);
    parameters are in M (10^6).
    """
    from zoo_search.run.ranking import rank_zoo

    config = _config(words or [], images, input_size, budget or [], change or [])
    try:
        ranked = rank_zoo(config, proxy, address=address, seed=seed)
    except UserError as error:
        hints = [hint for place, hint in _WITHOUT_A_FILE.items() if place in str(error)]
        if images is None or not hints:
            raise
        raise UserError(f"{error} {hints[0]}") from None
    columns = [
        text("model"), *([text("in_budget", "fits")] if ranked.limited else []),
        number("score", proxy), number("expected_accuracy", "accuracy", shown=_accuracy),
        number("params", "params (M)", shown=mega("params")),
        number("macs", "MACs (G)", shown=giga("macs")),
    ]  # fmt: skip
    if any(row["reason"] for row in ranked.models):
        columns.append(text("reason"))
    where = "" if images is None else f" on {images}"
    show(Table(f"Models{where}, best first", columns, ranked.models), as_json)
    if not as_json:
        for said in ranked.words():
            paragraph(said)


def _config(
    words: list[str],
    images: str | None,
    input_size: int | None,
    budget: list[str],
    change: list[str],
) -> JobConfig:
    """Return the run file's configuration, or that of images and models."""
    if images is not None:
        from zoo_search.config import load_job
        from zoo_search.run.ranking import job_of

        return load_job(job_of(images, words, input_size, budget), change)
    if len(words) != 1:
        raise UserError(
            "'zoo-search rank' needs either one run file, such as jobs/digits.yaml, or --images "
            f"with a folder of images and the names of models; {len(words) or 'no'} names and no "
            "--images were given."
        )
    for option, given in (("--input-size", input_size is not None), ("--budget", bool(budget))):
        if given:
            place = option.lstrip("-").replace("-", "_")
            raise UserError(
                f"{option} goes with --images. Where there is a run file it has these values: "
                f"change it there, or for this command with --set {place}…=VALUE."
            )
    return RunFile(Path(words[0]), change).load()


def _accuracy(row: Row) -> str:
    accuracy, error = row["expected_accuracy"], row["standard_error"]
    if not isinstance(accuracy, float) or not isinstance(error, float):
        return "–"
    return f"{100 * accuracy:.1f} ± {100 * error:.1f} %"
