"""``zoo-search cluster``: start, end and look at a cluster of machines that cost money."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from zoo_search.cli.options import AsJson
from zoo_search.cli.tables import paragraph, show
from zoo_search.core.errors import UserError
from zoo_search.core.progress import working

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="A cluster from a launcher file of Ray's (clusters/, docs/clusters/).",
)

File = Annotated[Path, typer.Argument(help="The launcher file, such as clusters/aws.yaml.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command()
def up(
    file: File,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Start so many workers at once, and keep them [as in the file]."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Start a cluster, after saying what that is and costs; a running one goes on running."""
    from zoo_search.cluster import launch

    plan = launch.read_launch_file(file)
    launch.check_ready(plan)
    with working("asking the provider"):
        there = launch.running(plan)
    show(launch.plan_table(plan, workers))
    for line in launch.plan_lines(plan, workers):
        print(line)
    question = "Give the running cluster this file?" if there else "Start it?"
    _agreed(question, yes)
    launch.bring_up(plan, workers)
    paragraph(
        f"The cluster costs money from now on: 'zoo-search cluster down {file}' ends it. Its job "
        f"server is reached with 'ray dashboard {file}', while that runs, at http://127.0.0.1:8265"
        + ("." if plan.runs is None else f"; run directories belong below {plan.runs}.")
    )


@app.command()
def down(file: File, yes: Yes = False) -> None:
    """End all machines of a cluster, and remove what was made for it; run directories stay."""
    from zoo_search.cluster import launch

    plan = launch.read_launch_file(file)
    with working("asking the provider"):
        there = launch.running(plan)
    show(launch.running_table(plan, there))
    _agreed("End it?", yes)
    for removed in launch.bring_down(plan):
        print(f"removed  {removed}")


@app.command()
def status(file: File, as_json: AsJson = False) -> None:
    """What runs of a cluster, and what it costs an hour; nothing is started."""
    from zoo_search.cluster import launch

    plan = launch.read_launch_file(file)
    with working("asking the provider"):
        there = launch.running(plan)
    show(launch.running_table(plan, there), as_json)
    if not as_json:
        print(launch.running_line(plan, there))


def _agreed(question: str, yes: bool) -> None:
    """Ask, unless that is not wanted.

    Raises:
        UserError: If nobody is there to answer.
        typer.Exit: If the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"{question} Nobody is there to answer. Give --yes to go ahead.")
    if not typer.confirm(question):
        print("nothing was done")
        raise typer.Exit(1)
