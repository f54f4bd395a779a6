"""Gather the artifacts of a run directory into ``report.html``."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zoo_search.drawing import PALETTE
from zoo_search.hooks import HookReport
from zoo_search.report import pictures
from zoo_search.report.summary import ROLES
from zoo_search.report.verdict import final_accuracy, verdict
from zoo_search.store import RunStore

__all__ = ["build", "measured_columns", "ranking"]


def ranking(store: RunStore) -> list[dict[str, Any]]:
    """Return the candidates of a run as JSON-ready rows, best first by its first proxy.

    Failed candidates come last, with their reason. ``recipe`` is for people, ``blocks`` what
    :meth:`zoo_search.reassembly.Recipe.from_any` reads. Each proxy's score stands under its name.
    """
    from zoo_search.reassembly import best_first, step
    from zoo_search.reassembly.candidates import proxy_column

    candidates = step.read(store)
    proxy = yaml.safe_load(store.read_text("job.yaml"))["search"]["proxies"][0]
    ranked = best_first(candidates, proxy)
    scored = {candidate.id for candidate in ranked}
    return [
        {
            "rank": rank,
            "id": c.id,
            "kind": c.kind,
            "recipe": str(c.recipe),
            "blocks": c.recipe.to_dict()["blocks"],
            "key": c.recipe.key,
            "params": c.params,
            "macs": c.macs,
            **({} if c.latency is None else {"latency_ms": c.latency}),
            **({} if c.memory is None else {"memory": c.memory}),
            "score": c.scores.get(proxy),
            **{proxy_column(name): score for name, score in c.scores.items()},
            "state": c.state,
            "reason": c.reason,
            "seconds": c.seconds,
            "init": list(c.init),
        }
        for rank, c in enumerate([*ranked, *(c for c in candidates if c.id not in scored)], 1)
    ]


def measured_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return field and heading of the measured costs that rows of :func:`ranking` have."""
    headings = {"latency_ms": "latency (ms) #", "memory": "memory (bytes) #"}
    return {name: text for name, text in headings.items() if any(name in row for row in rows)}


def build(store: RunStore) -> str:
    """Write ``report.html`` from what the run directory holds, and return its path.

    Reads ``job.yaml``, ``zoo.json``, ``similarity.parquet``, ``partition.json``,
    ``candidates.parquet``, ``winners.json`` and the manifest; nothing is computed again.
    """
    import jinja2

    template = (Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["count"] = lambda n: f"{n:,}".replace(",", "\u2009")
    environment.filters["millions"] = lambda n: f"{n / 1e6:.2f}"
    environment.filters["percent"] = lambda x: f"{100 * x:.1f}"
    page = environment.from_string(template).render(**_facts(store))
    store.write_text("report.html", page)
    return store.path("report.html")


def _facts(store: RunStore) -> dict[str, Any]:
    from zoo_search.partition.agreement import follows_stages
    from zoo_search.partition.picture import partition_picture, restarts_picture
    from zoo_search.partition.result import Partition
    from zoo_search.similarity.heatmap import heat_map
    from zoo_search.similarity.table import SimilarityTable

    job = yaml.safe_load(store.read_text("job.yaml"))
    winners = store.read_json("winners.json")
    rows = ranking(store)
    proxy = job["search"]["proxies"][0]
    scored = [row for row in rows if row["score"] is not None]
    with store.local_copy("similarity.parquet") as path:
        table = SimilarityTable.load(path)
    with store.local_copy("partition.json") as path:
        partition = Partition.load(path)
    nodes = {name: len(model.cuts) - 1 for name, model in table.models.items()}
    results = sorted(winners["results"], key=final_accuracy, reverse=True)
    return {
        "job": job,
        "job_yaml": store.read_text("job.yaml"),
        "verdict": verdict(results, winners["test_images"]),
        "results": [_row(result, proxy) for result in results],
        "protocols": job["finetune"]["protocol"],
        "proxy": proxy,
        "colours": _colours(nodes, results),
        "dataset": winners,
        "candidates": scored,
        "measured": measured_columns(rows),
        "failed": [row for row in rows if row["state"] != "complete"],
        "zoo": store.read_json("zoo.json"),
        "partition": partition,
        "follows_stages": follows_stages(partition),
        "steps": store.manifest(),
        "folder": store.url,
        "pictures": {
            "similarity": _embed(heat_map(table)),
            "partition": _embed(partition_picture(partition, nodes)),
            "restarts": _embed(restarts_picture(partition)),
            "candidates": _embed(pictures.candidate_picture(scored, proxy, _chosen(results))),
            "curves": _embed(pictures.curve_picture(winners["results"])),
        },
    }


def _row(result: Mapping[str, Any], proxy: str) -> dict[str, Any]:
    blocks = result["recipe"]["blocks"]
    return {
        **result,
        "role_text": ROLES[result["role"]],
        "blocks": blocks,
        "score": result["scores"].get(proxy),
        "seconds": sum(record["seconds"] for record in result["protocols"].values()),
        "started": [HookReport(**report).line for report in result["init"]],
    }


def _colours(zoo: Iterable[str], results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return a colour for each model; a changed model has that of the model that it was."""
    used = [block["model"] for result in results for block in result["recipe"]["blocks"]]
    names = dict.fromkeys([*zoo, *(name for name in used if "@" not in name)])
    colours = dict(zip(names, itertools.cycle(PALETTE), strict=False))
    return colours | {name: colours[name.rpartition("@")[0]] for name in used if "@" in name}


def _chosen(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Map the key of a recipe to the name of the network made from it."""
    from zoo_search.reassembly import Recipe

    return {Recipe.from_any(result["recipe"]).key: result["name"] for result in results}


def _embed(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
