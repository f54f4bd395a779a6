"""Gather the artifacts of a run directory into ``report.html``."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo_search.config import read_job
from zoo_search.core.redaction import redacted
from zoo_search.core.store import RunStore
from zoo_search.data.checks.told import TOLD
from zoo_search.finetune.answers import Answers, answers_of
from zoo_search.finetune.entries import Raced, Result, Role, Winners, best, best_first
from zoo_search.plots import run, winners
from zoo_search.plots.style import PALETTE
from zoo_search.report.comparison import Estimate, estimate
from zoo_search.report.ranking import ranking
from zoo_search.report.summary import ROLES
from zoo_search.report.verdict import verdict
from zoo_search.training.metrics import METRICS, Metric, per_class

if TYPE_CHECKING:
    from zoo_search.similarities.table import SimilarityTable


def build(store: RunStore) -> str:
    """Write ``report.html`` from what the run directory holds, and return its path.

    Reads ``job.yaml``, ``zoo.json``, ``similarity.parquet``, ``partition.json``,
    ``candidates.parquet``, ``winners.json``, the manifest, and ``dataset.json`` where it is there;
    nothing is computed again.
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
    from zoo_search.partitions.result import load_partitions
    from zoo_search.plots.heatmap import heat_map
    from zoo_search.plots.sets import partition_picture, restarts_picture
    from zoo_search.similarities.table import SimilarityTable

    job, told, ranked = read_job(store), Winners.read(store), ranking(store)
    table = SimilarityTable.load(store.path("similarity.parquet"))
    partitions = load_partitions(store.path("partition.json"))
    nodes = {name: len(model.cuts) - 1 for name, model in table.models.items()}
    results, answers = best_first(told.results), answers_of(store, told.results)
    right = answers.right
    intervals = {name: estimate(each.astype(np.float64)) for name, each in right.items()}
    colours = _colours(nodes, results)
    names = {result.recipe.key: result.name for result in results}
    pictures = {
        "similarity": heat_map(table),
        "candidates": run.candidate_picture(ranked.scored, ranked.proxy, names),
        "curves": run.curve_picture(told.results),
        "accuracies": winners.accuracy_picture(_points(results, intervals)),
        **({"race": _race(told)} if told.race else {}),
        "networks": winners.networks_picture(_drawn(results, table), colours),
    }
    return {
        "job": job,
        "job_yaml": redacted(store.read_text("job.yaml")),
        "verdict": verdict(
            results, right, told.test_images, told.given_up, metric=told.metric, answers=answers
        ),
        "metric": METRICS[told.metric],
        "lines": [
            {
                "result": result,
                "role": ROLES[result.role],
                "score": result.scores.get(ranked.proxy),
                "interval": intervals.get(result.name),
                "balanced": _score(answers, result, "balanced_accuracy"),
                "macro_f1": _score(answers, result, "macro_f1"),
                "after": {p: result.accuracy_after(p) for p in result.protocols},
                "seconds": sum(r.seconds for t in result.told for r in t.protocols.values()),
            }
            for result in results
        ],
        "classes": _classes(results, answers, told.classes),
        "roles": ROLES,
        "colours": colours,
        "winners": told,
        "ranked": ranked,
        "zoo": store.read_json("zoo.json"),
        "images": store.kept(TOLD),
        "partitions": [
            {
                "partition": partition,
                "follows_stages": follows_stages(partition),
                "sets": _as_url(partition_picture(partition, nodes)),
                "restarts": _as_url(restarts_picture(partition)),
            }
            for partition in partitions
        ],
        "steps": store.manifest(),
        "folder": redacted(store.url),
        "pictures": {name: _as_url(svg) for name, svg in pictures.items()},
    }


def _score(answers: Answers, result: Result, metric: Metric) -> float | None:
    """Return a metric of a network on the test images; None without its predictions."""
    return answers.score(result.name, metric) if result.name in answers.said else None


def _classes(
    results: Sequence[Result], answers: Answers, classes: Sequence[str]
) -> list[dict[str, object]]:
    """Return how the best network of each role recognises each class, of all its trainings."""
    found: list[dict[str, object]] = []
    for result in filter(None, (best(results, role) for role in ROLES)):
        if result.name not in answers.said:
            continue
        each = per_class(answers.confusion(result.name, len(classes)))
        counts = each.count // len(answers.said[result.name])
        rows = zip(classes, each.precision, each.recall, each.f1, counts, strict=True)
        found.append({"result": result, "rows": list(rows)})
    return found


def _as_url(svg: bytes) -> str:
    """Return a picture as a URL that holds it."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _points(results: Sequence[Result], intervals: Mapping[str, Estimate]) -> list[winners.Point]:
    """Return the networks as points of a picture; without an interval, where there is none."""
    points, first = [], {result.role: best(results, result.role) for result in results}
    for result in results:
        found = intervals.get(result.name)
        low, high = (result.accuracy,) * 2 if found is None else (found.low, found.high)
        points.append(
            winners.Point(
                result.name,
                result.role,
                ROLES[result.role],
                result.macs,
                result.accuracy,
                min(low, result.accuracy),
                max(high, result.accuracy),
                first[result.role] is result,
            )
        )
    return points


def _race(told: Winners) -> bytes:
    return winners.race_picture(_ways(told.race), METRICS[told.metric])


def _ways(raced: Sequence[Raced]) -> list[winners.Way]:
    """Return how networks did in the race, with the schedule's own values."""
    found = []
    for one in raced:
        seen = [point for point in one.seen if not point.tuned]
        if seen:
            epochs, accuracies = [p.epochs for p in seen], [p.score for p in seen]
            found.append(winners.Way(one.name, one.role, ROLES[one.role], epochs, accuracies))
    return found


def _drawn(results: Sequence[Result], table: SimilarityTable) -> list[winners.Drawn]:
    """Return the best network of each role that consists of models of the zoo, as its blocks."""
    found = []
    roles: tuple[Role, ...] = ("reassembly", "single", "random")
    for result in filter(None, (best(results, role) for role in roles)):
        pieces = [
            winners.Piece(
                b.model, b.start, b.stop, sum(table.models[b.model].macs[b.start : b.stop])
            )
            for b in result.recipe.blocks
        ]
        cost = f"{result.params / 1e6:.2f} M parameters, {result.macs / 1e6:.1f} M MACs"
        found.append(winners.Drawn(result.name, f"{result.accuracy:.1%}, {cost}", pieces))
    return found


def _colours(zoo: Iterable[str], results: Sequence[Result]) -> dict[str, str]:
    """Return a colour for each model; a changed model has that of the model that it was."""
    used = [block.model for result in results for block in result.recipe.blocks]
    names = dict.fromkeys([*zoo, *(name for name in used if "@" not in name)])
    colours = dict(zip(names, itertools.cycle(PALETTE), strict=False))
    return colours | {name: colours[name.rpartition("@")[0]] for name in used if "@" in name}
