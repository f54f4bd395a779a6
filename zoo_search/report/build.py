"""Gather the artifacts of a run directory into ``report.html``."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from zoo_search.config import read_job
from zoo_search.core.store import RunStore
from zoo_search.finetune.entries import Result, Winners
from zoo_search.plots import run
from zoo_search.plots.style import PALETTE
from zoo_search.report.ranking import ranking
from zoo_search.report.summary import ROLES
from zoo_search.report.verdict import best_first, verdict


def build(store: RunStore) -> str:
    """Write ``report.html`` from what the run directory holds, and return its path.

    Reads ``job.yaml``, ``zoo.json``, ``similarity.parquet``, ``partition.json``,
    ``candidates.parquet``, ``winners.json`` and the manifest; nothing is computed again.
    """
    import jinja2

    template = (Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["millions"] = lambda n: f"{n / 1e6:.2f}"
    environment.filters["percent"] = lambda x: f"{100 * x:.1f}"
    page = environment.from_string(template).render(**_facts(store))
    store.write_text("report.html", page)
    return store.path("report.html")


def _facts(store: RunStore) -> dict[str, object]:
    from zoo_search.partitions.agreement import follows_stages
    from zoo_search.partitions.result import Partition
    from zoo_search.plots.heatmap import heat_map
    from zoo_search.plots.sets import partition_picture, restarts_picture
    from zoo_search.similarities.table import SimilarityTable

    job, winners, ranked = read_job(store), Winners.read(store), ranking(store)
    table = SimilarityTable.load(store.path("similarity.parquet"))
    partition = Partition.load(store.path("partition.json"))
    nodes = {name: len(model.cuts) - 1 for name, model in table.models.items()}
    results = best_first(winners.results)
    names = {result.recipe.key: result.name for result in results}
    pictures = {
        "similarity": heat_map(table),
        "partition": partition_picture(partition, nodes),
        "restarts": restarts_picture(partition),
        "candidates": run.candidate_picture(ranked.scored, ranked.proxy, names),
        "curves": run.curve_picture(winners.results),
    }
    return {
        "job": job,
        "job_yaml": store.read_text("job.yaml"),
        "verdict": verdict(results, winners.test_images, winners.given_up),
        "lines": [
            {
                "result": result,
                "role": ROLES[result.role],
                "score": result.scores.get(ranked.proxy),
                "seconds": sum(record.seconds for record in result.protocols.values()),
            }
            for result in results
        ],
        "roles": ROLES,
        "colours": _colours(nodes, results),
        "winners": winners,
        "ranked": ranked,
        "zoo": store.read_json("zoo.json"),
        "partition": partition,
        "follows_stages": follows_stages(partition),
        "steps": store.manifest(),
        "folder": store.url,
        "pictures": {
            name: f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
            for name, svg in pictures.items()
        },
    }


def _colours(zoo: Iterable[str], results: Sequence[Result]) -> dict[str, str]:
    """Return a colour for each model; a changed model has that of the model that it was."""
    used = [block.model for result in results for block in result.recipe.blocks]
    names = dict.fromkeys([*zoo, *(name for name in used if "@" not in name)])
    colours = dict(zip(names, itertools.cycle(PALETTE), strict=False))
    return colours | {name: colours[name.rpartition("@")[0]] for name in used if "@" in name}
