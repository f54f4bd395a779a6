"""The cost table of a run: what its budget asks to measure, kept in ``latency.json``.

A run that is gone on with, and the steps behind the search, take the figures that were measured
first, so that a recipe does not drift over a limit from one measurement to the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from zoo_search.config import BudgetConfig
from zoo_search.core.identity import fingerprint
from zoo_search.core.progress import console, progress
from zoo_search.core.store import RunStore
from zoo_search.costs.budget import Budget
from zoo_search.costs.latency import LatencyTable, Timer, additive_error
from zoo_search.costs.table import CostTable
from zoo_search.networks.assemble import assemble
from zoo_search.networks.parents import Models, Parents
from zoo_search.networks.recipe import Taps
from zoo_search.partitions.result import Partition
from zoo_search.reassembly.space.choices import Scope, left_out_in_words
from zoo_search.reassembly.space.space import Space, SpaceUnion, make_space

LATENCY = "latency.json"
_CHECKED = 5  # recipes that are built to tell the error of the additive model


def budget_of(config: BudgetConfig) -> Budget:
    """Return the limits of a run file's section ``budget``."""
    return Budget(**{limit.name: getattr(config, limit.name) for limit in fields(Budget)})


def open_space(
    partitions: Partition | Sequence[Partition],
    zoo: Models,
    num_classes: int,
    config: BudgetConfig,
    store: RunStore,
    early: bool = False,
    taps: Taps = "last",
) -> Space | SpaceUnion:
    """Return the recipes that a run's partitions and its section ``budget`` allow.

    ``early`` is ``search.prefixes``: recipes may end after any stage; ``taps`` is ``search.head``:
    what heads read.
    """
    costs = cost_table(zoo, num_classes, config, store)
    return make_space(partitions, costs, budget_of(config), early=early, taps=taps)


def cost_table(
    zoo: Models, num_classes: int, config: BudgetConfig, store: RunStore | None = None
) -> CostTable:
    """Return the cost table of a run, with the latencies that the run directory holds, if any."""
    parents = dict(Parents(zoo))
    graphs = {name: parent.graph for name, parent in parents.items()}
    timer = Timer(batch=config.latency_batch, threads=config.latency_threads)
    known: dict[str, int] = {}
    kept = store.kept(LATENCY) if store is not None else None
    if kept is not None and kept["made_from"] == _identity(parents, timer):
        known = kept["nanoseconds"]
    latency = LatencyTable(graphs, num_classes, timer, known)
    return CostTable(parents, num_classes, config.measure, latency)


def measure_costs(
    space: Space | SpaceUnion, zoo: Models, seed: int, store: RunStore
) -> dict[str, Any]:
    """Measure what the space needs, keep it, and say what the user should know of it.

    That is which models the licences leave out, and how far the additive model of latency is off;
    returned is the same for the metadata of ``candidates.parquet``, JSON-ready.

    Raises:
        UserError: If no recipe is feasible.
    """
    facts: dict[str, Any] = {}
    if space.left_out:
        console.print(f"  left out by 'budget.licenses': {left_out_in_words(space.left_out)}")
        facts["left_out"] = space.left_out
    if "latency" in space.costs.measure:
        latency, classes = space.costs.latency, space.costs.num_classes
        _measure_all(space)
        nets = [
            assemble(recipe, zoo, "random", num_classes=classes, copy_blocks=False)
            for recipe in space.sample(_CHECKED, seed)
        ]
        error = additive_error(latency, nets)
        settings = latency.timer.settings()
        kept = {
            "format": 1,
            "made_from": _identity(zoo, latency.timer),
            **settings,
            "nanoseconds": latency.measured,
        }
        store.keep(LATENCY, kept)
        console.print(
            f"  latency of {settings['batch']} image(s) on {settings['device']}, block by block "
            f"and added up: {error}",
        )
        facts["latency"] = {
            **settings, "error_median": error.median, "error_worst": error.worst,
            "recipes": error.recipes,
        }  # fmt: skip
    return facts


def _measure_all(space: Scope) -> None:
    blocks = {
        (block, stage == part.k - 1)
        for part in space.parts
        for stage, options in enumerate(part.stages)
        for block in options
    }
    joints = {pair for part in space.parts for pair in itertools.chain(*part.joints)}
    with progress("measuring latency", len(blocks) + len(joints)) as bar:
        for block, last in sorted(blocks):
            space.costs.units_of_block(block, "latency", last=last)
            bar.advance()
        for before, after in sorted(joints):
            space.costs.units_of_joint(before, after, "latency")
            bar.advance()


def _identity(zoo: Models, timer: Timer) -> str:
    """Return the hash of everything that a latency depends on."""
    graphs = {name: parent.graph for name, parent in Parents(zoo).items()}
    models = {
        name: [list(graph.input_size), [[node.name, node.params, node.macs] for node in graph]]
        for name, graph in graphs.items()
    }
    return fingerprint([models, timer.settings()])
