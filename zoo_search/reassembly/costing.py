"""The cost table of a run: what its budget asks to measure, kept in ``latency.json``.

A run that is gone on with, and the steps behind the search, take the figures that were measured
first, so that a recipe does not drift over a limit from one measurement to the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo_search.reassembly.assemble import assemble
from zoo_search.reassembly.cost import CostTable
from zoo_search.reassembly.infeasible import left_out_in_words
from zoo_search.reassembly.latency import AdditiveError, LatencyTable, Timer, additive_error
from zoo_search.reassembly.recipe import HasGraph, graph_of

if TYPE_CHECKING:
    from zoo_search.config import BudgetConfig
    from zoo_search.linegraph.graph import LineGraph
    from zoo_search.reassembly.space import Space
    from zoo_search.store import RunStore

__all__ = ["LATENCY", "cost_table", "prepare"]

LATENCY = "latency.json"
_CHECKED = 5  # recipes that are built to tell the error of the additive model


def cost_table(
    zoo: Mapping[str, LineGraph | HasGraph],
    num_classes: int,
    config: BudgetConfig,
    store: RunStore | None = None,
) -> CostTable:
    """Return the cost table of a run; latencies that the run directory holds are taken from there.

    Args:
        zoo: Models by name.
        num_classes: Classes of the target head.
        config: Section ``budget`` of the run file.
        store: The run directory, if there is one.
    """
    graphs = {name: graph_of(model) for name, model in zoo.items()}
    timer = Timer(batch=config.latency_batch, threads=config.latency_threads)
    known: Mapping[str, int] = {}
    if store is not None and store.exists(LATENCY):
        kept = store.read_json(LATENCY)
        if kept.get("made_from") == _identity(graphs, timer):
            known = kept["nanoseconds"]
    latency = LatencyTable(graphs, num_classes, timer, known)
    return CostTable(zoo, num_classes, config.measure, latency)


def prepare(space: Space, zoo: Mapping[str, Any], seed: int, store: RunStore) -> dict[str, Any]:
    """Measure what the space needs, keep it, and say what the user should know of it.

    Says which models the licences leave out, and how far the additive model of latency is off.

    Returns:
        The same for the metadata of ``candidates.parquet``, JSON-ready.

    Raises:
        UserError: If no recipe is feasible.
    """
    from zoo_search.progress import console

    facts: dict[str, Any] = {}
    if space.left_out:
        console.print(
            f"  left out by 'budget.licenses': {left_out_in_words(space.left_out)}", markup=False
        )
        facts["left_out"] = space.left_out
    if "latency" in space.costs.measure:
        latency = space.costs.latency
        _measure_all(space)
        error = _error(space, zoo, seed)
        kept = {
            "format": 1,
            "made_from": _identity({name: graph_of(m) for name, m in zoo.items()}, latency.timer),
            **latency.timer.settings(),
            "nanoseconds": latency.measured,
        }
        store.write_json(LATENCY, kept)
        settings = latency.timer.settings()
        console.print(
            f"  latency of {settings['batch']} image(s) on {settings['device']}, block by block "
            f"and added up: {error}",
            markup=False,
        )
        facts["latency"] = {
            **settings, "error_median": error.median, "error_worst": error.worst,
            "recipes": error.recipes,
        }  # fmt: skip
    return facts


def _measure_all(space: Space) -> None:
    from zoo_search.progress import progress

    joints = [pair for two in itertools.pairwise(space.stages) for pair in itertools.product(*two)]
    with progress("measuring latency", len(space.sets) + len(joints)) as bar:
        for stage, blocks in enumerate(space.stages):
            for block in blocks:
                space.costs.units_of_block(block, "latency", last=stage == space.k - 1)
                bar.advance()
        for before, after in joints:
            space.costs.units_of_joint(before, after, "latency")
            bar.advance()


def _error(space: Space, zoo: Mapping[str, Any], seed: int) -> AdditiveError:
    networks = [
        (
            recipe,
            assemble(recipe, zoo, "random", num_classes=space.costs.num_classes, copy_blocks=False),
        )
        for recipe in space.sample(_CHECKED, seed)
    ]
    return additive_error(space.costs.latency, networks)


def _identity(graphs: Mapping[str, LineGraph], timer: Timer) -> str:
    """Return the hash of everything that a latency depends on."""
    from zoo_search.store import fingerprint

    models = {
        name: [list(graph.input_size), [[node.name, node.params, node.macs] for node in graph]]
        for name, graph in graphs.items()
    }
    return fingerprint([models, timer.settings()])
