"""``zoo-search zoo``: the models of a run file as tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from zoo_search.cli.options import Address, AsJson, RunFile, grouped
from zoo_search.cli.tables import show
from zoo_search.core.errors import UserError
from zoo_search.core.tables import Table, number, text

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The models of a run file.")


@app.command("list")
@grouped
def list_models(file: RunFile, as_json: AsJson = False) -> None:
    """Name, family, parameters, GMACs, nodes, weights and licence of every model."""
    from zoo_search.zoo.facts import details

    columns = (
        text("name"), text("family"), number("params", "parameters"), number("gmacs", "GMACs"),
        number("nodes"), text("weights"), text("license", "licence"), text("problem"),
    )  # fmt: skip
    show(Table("The zoo", columns, [asdict(found.row) for found in details(file.load())]), as_json)


@app.command()
@grouped
def inspect(
    file: RunFile,
    name: Annotated[str, typer.Argument(help="Name of a model in the run file's zoo.")],
    as_json: AsJson = False,
) -> None:
    """The nodes and cuts of one model, and why other places are no cuts."""
    from zoo_search.zoo.facts import detail
    from zoo_search.zoo.listing import detail_rows

    columns = (
        number("index", "cut"), text("name", "ends with"), number("params", "parameters"),
        number("macs", "MACs"), text("layout"), number("channels"), text("grid"),
        number("prefix_tokens", "prefix"), number("streams"), text("why", "no cut, because"),
    )  # fmt: skip
    found = detail(file.load(), name)
    show(Table(f"{name}: {found.row.weights}", columns, detail_rows(found)), as_json)
    if found.row.problem:
        raise UserError(found.row.problem)


@app.command()
@grouped
def pretrain(
    file: RunFile,
    name: Annotated[list[str] | None, typer.Option(help="Only these models.")] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Train the models whose weights are pretrained_on:DATASET, once; they are cached."""
    from zoo_search import cluster
    from zoo_search.zoo import pretrain

    columns = (
        text("name"), text("dataset", "trained on"), number("test_accuracy", "test accuracy"),
        number("epochs"), number("seconds"), text("cached", "was cached"),
    )  # fmt: skip
    config = file.load()  # a mistake is told before Ray is started
    cluster.connect(address)
    done = pretrain(config, name or None)
    show(Table("Pre-training", columns, [row.to_dict() for row in done.values()]), as_json)
