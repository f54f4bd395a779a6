"""The table that ends a run: winners and baselines, for the terminal and as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from zoo_search.config import read_job
from zoo_search.core.store import RunStore
from zoo_search.core.tables import Table, number, text
from zoo_search.finetune.answers import Answers, answers_of
from zoo_search.finetune.entries import GivenUp, Result, Role, Winners, best_first
from zoo_search.report.verdict import verdict
from zoo_search.training.metrics import METRICS, Metric

ROLES: dict[Role, str] = {
    "reassembly": "reassembly",
    "single": "single model",
    "random": "random recipe",
    "plain": "plain model",
    "variant": "changed winner",
}
"""What each role in ``winners.json`` is called."""
_BESIDE: tuple[Metric, ...] = ("balanced_accuracy", "macro_f1")
"""Metrics of the test images that are told beside the accuracy."""


@dataclass(frozen=True)
class Summary:
    """What a run ended with."""

    table: Table
    """One row a network, best on the validation images first; accuracies are means over its
    trainings. Those whose training came to no end stand last, with the
    reason as the field ``given_up``."""
    verdict: str
    """Whether reassembly paid."""
    report: str | None
    """Path of the report; None before that step is made."""
    winner: str
    """Folder of the best reassembly."""
    given_up: tuple[str, ...] = ()
    """A line for each network whose training came to no end, with the reason."""


def summary(store: RunStore) -> Summary:
    """Read ``winners.json`` into the closing table of a run."""
    job, winners = read_job(store), Winners.read(store)
    results = best_first(winners.results)
    answers, metric = answers_of(store, winners.results), winners.metric
    told = verdict(
        results, answers.right, winners.test_images, winners.given_up,
        metric=metric, answers=answers,
    )  # fmt: skip
    protocols = dict.fromkeys(name for result in winners.results for name in result.protocols)
    by_other = winners.validation_images and metric != "accuracy"
    columns = (
        text("name", "network"),
        text("role", "what it is"),
        text("blocks"),
        number("params_m", "parameters (M)"),
        number("macs_m", "MACs (M)"),
        number("trainings", "trainings"),
        *([number("validation_percent", "validation %")] if winners.validation_images else []),
        *([number("chosen_by_percent", f"validation {METRICS[metric]} %")] if by_other else []),
        *(number(f"{name}_percent", f"{name.upper()} test %") for name in protocols),
        *(number(f"{name}_percent", f"test {METRICS[name]} %") for name in _BESIDE if answers.said),
    )
    rows = [_row(result, answers, metric) for result in results]
    rows += [*map(_row_without_end, winners.given_up)]
    folder = next(result.folder for result in results if result.name == told.winner)
    return Summary(
        Table(f"{job.name}: winners and baselines", columns, rows),
        told.text,
        store.path("report.html") if store.exists("report.html") else None,
        store.path(str(folder)),
        tuple(f"{network.name} came to no end: {network.reason}" for network in winners.given_up),
    )


def _row_without_end(network: GivenUp) -> dict[str, object]:
    return {"name": network.name, "role": ROLES[network.role], "given_up": network.reason}


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _row(result: Result, answers: Answers, metric: Metric) -> dict[str, object]:
    blocks = (f"{b.model} {b.start}-{b.stop}" for b in result.recipe.blocks)
    return {
        "name": result.name,
        "role": ROLES[result.role],
        "blocks": " + ".join(blocks),
        "params": result.params,
        "macs": result.macs,
        "params_m": f"{result.params / 1e6:.2f}",
        "macs_m": f"{result.macs / 1e6:.1f}",
        "trainings": len(result.told),
        **({"validation_percent": _percent(result.validation[0])} if result.validation else {}),
        **(
            {"chosen_by_percent": _percent(result.judged[0])}
            if result.judged and metric != "accuracy"
            else {}
        ),
        **{
            f"{protocol}_percent": _percent(found)
            for protocol in result.protocols
            if (found := result.accuracy_after(protocol)) is not None
        },
        **{
            f"{name}_percent": _percent(answers.score(result.name, name))
            for name in _BESIDE
            if result.name in answers.said
        },
    }
