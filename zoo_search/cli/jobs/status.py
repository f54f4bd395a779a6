"""``zoo-search status``: where a run stands."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from zoo_search.cli.options import AsJson, Directory, RunOrFile, is_run_file, run_directory
from zoo_search.cli.tables import show
from zoo_search.core.redaction import redacted_values, shown
from zoo_search.core.tables import Table, duration, text

if TYPE_CHECKING:
    from zoo_search.run.status import RunStatus


def status(
    run: RunOrFile = None,
    directory: Directory = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Load the zoo, and say for certain which steps are stale."),
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(help="Ray dashboard of the cluster, http://HEAD:8265: tells what nodes do."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Steps, progress and the best network of a run; with --address, what each node does.

    Reads the run directory alone, from any machine that has it.
    """
    from zoo_search.core.store import RunStore
    from zoo_search.run.status import status_of

    store = RunStore(run_directory(run, directory, "status"))
    found = status_of(store)
    if check:
        found = _checked(found, run)
    nodes = None
    if address is not None:
        from zoo_search.cluster.jobs import server
        from zoo_search.cluster.jobs.nodes import nodes_of, nodes_table

        place = server.address_of(address)
        job = found.doing.ray_job if found.doing and found.worker else None
        nodes = nodes_of(server.reach(place), place, job)
    if as_json:
        said = asdict(found) if nodes is None else {**asdict(found), "nodes": [*map(asdict, nodes)]}
        json.dump(redacted_values(said), sys.stdout, indent=1)
        print()
        return
    show(_table(found))
    for line in found.words():
        print(shown(line))
    if nodes is not None:
        show(nodes_table(nodes, place))


def _checked(found: RunStatus, run: str | None) -> RunStatus:
    """Return the status with the steps that would be made anew as such."""
    from zoo_search.cli.options import share_modules_beside
    from zoo_search.config import load_job, read_job
    from zoo_search.core.progress import working
    from zoo_search.core.store import RunStore
    from zoo_search.run.pipeline import to_make
    from zoo_search.run.run import Run
    from zoo_search.run.status import with_stale

    if run is not None and is_run_file(run):
        share_modules_beside(run)
        job = load_job(run)
    else:
        job = read_job(RunStore(found.directory))
    with working("zoo: loading"):
        return with_stale(found, to_make(Run.open(job, found.directory)))


def _table(found: RunStatus) -> Table:
    rows = [
        {
            **asdict(step),
            "made": "–" if step.finished is None else step.finished,
            "took": "–" if step.seconds is None else duration(step.seconds),
        }
        for step in found.steps
    ]
    columns = text("name", "step"), text("stage"), text("made"), text("took"), text("reason", "")
    return Table(found.directory, columns, rows)
