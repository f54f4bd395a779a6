"""The commands of a run: they make its steps up to one, and tell what came out."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from zoo_search.cli.options import AsJson, Hours, Place, RunFile, grouped, say, write_picture
from zoo_search.cli.tables import show
from zoo_search.core.redaction import shown
from zoo_search.core.tables import Table, number, text

if TYPE_CHECKING:
    from zoo_search.config import JobConfig
    from zoo_search.run.run import Run


def _run(job: JobConfig, until: str, place: Place, hours: float | None = None) -> Run:
    from zoo_search.run import pipeline

    return pipeline.run(job, until=until, hours=hours, say=say, **asdict(place))


def _show_winners(
    file: RunFile, until: str, place: Place, hours: float | None, as_json: bool
) -> None:
    """Make a run up to ``finetune`` or ``report``; print its winners and what they show."""
    run = _run(file.load(), until, place, hours)
    from zoo_search.report import summary  # not before: a mistake in the run file needs no torch

    told = summary(run.store)
    show(told.table, as_json)
    if not as_json:
        report = "" if told.report is None else f"report  {told.report}\n"
        print(shown("\n".join([*told.given_up, told.verdict])))
        print(shown(f"\n{report}winner  {told.winner}"))


@grouped
def run(file: RunFile, place: Place, hours: Hours = None, as_json: AsJson = False) -> None:
    """All steps, resumable: similarity, partition, reassembly, fine-tuning, report."""
    _show_winners(file, "report", place, hours, as_json)


@grouped
def similarity(
    file: RunFile,
    place: Place,
    png: Annotated[str | None, typer.Option(help="Draw the table as a heat map.")] = None,
    pair: Annotated[str | None, typer.Option(help="Two models A,B for --png [whole zoo].")] = None,
    as_json: AsJson = False,
) -> None:
    """How alike the cuts of all models are: similarity.parquet."""
    from zoo_search.plots.heatmap import heat_map, parse_pair
    from zoo_search.similarities.table import pairs

    config = file.load()
    models = parse_pair(pair, config.zoo)
    table = _run(config, "similarity", place).table
    if png is not None:
        write_picture(png, heat_map(table, models, "png"))
        say(f"heat map  {png}")
    columns = (
        text("model_a", "model"), text("model_b", "and model"),
        number("mean_best", "mean best match"), number("best"), text("at", "between cuts"),
    )  # fmt: skip
    show(Table("Models whose cuts are most alike", columns, pairs(table)), as_json)


@grouped
def reassemble(file: RunFile, place: Place, as_json: AsJson = False) -> None:
    """Find recipes within the budget and score them without training: candidates.parquet."""
    run = _run(file.load(), "reassemble", place)
    from zoo_search.report import ranking

    ranked = ranking(run.store)
    columns = (
        number("rank", ""), text("kind"), text("recipe"), number("params", "parameters"),
        number("macs", "MACs"), *ranked.measured.values(),
        number("score", ranked.proxy), text("state"), text("reason"),
    )  # fmt: skip
    show(Table("Candidates, best first", columns, ranked.rows()), as_json)


@grouped
def finetune(file: RunFile, place: Place, hours: Hours = None, as_json: AsJson = False) -> None:
    """Fine-tune the winners and the baselines: winners.json, winners/."""
    _show_winners(file, "finetune", place, hours, as_json)


@grouped
def report(file: RunFile, place: Place, hours: Hours = None, as_json: AsJson = False) -> None:
    """The report of a run: report.html."""
    _show_winners(file, "report", place, hours, as_json)
