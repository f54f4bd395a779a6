"""The zoo models themselves on the target data, without training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo_search.reassembly.cost import Budget
from zoo_search.reassembly.costing import cost_table
from zoo_search.reassembly.proxies import check_proxies
from zoo_search.reassembly.recipe import Recipe, graph_of
from zoo_search.reassembly.scoring import Scorer, Task, scoring_zoo
from zoo_search.reassembly.target import load_target

if TYPE_CHECKING:
    from zoo_search.config import JobConfig
    from zoo_search.data.base import Subset
    from zoo_search.store import RunStore

__all__ = ["rank"]


def rank(
    zoo: Mapping[str, Any],
    target: Subset,
    num_classes: int,
    proxy: str,
    job: JobConfig,
    store: RunStore | None = None,
) -> list[dict[str, Any]]:
    """Return the zoo models by a training-free score on target images, best first.

    Args:
        zoo: Models by name.
        target: Training images.
        num_classes: Classes of the target head.
        proxy: Name of the proxy.
        job: Run configuration: its budget, seed and search batches count.
        store: Run directory that may hold latencies measured before.

    Raises:
        UserError: If the proxy is unknown or there are too few images.
    """
    check_proxies([proxy])
    config = job.search
    images, labels = load_target(target, zoo, 4 * config.batches * config.batch_size)
    task = Task(
        scoring_zoo(zoo), images, labels, num_classes, (proxy,), "random", config.fit_images,
        config.batches, config.batch_size, job.seed,
    )  # fmt: skip
    scorer, budget = Scorer(task), Budget.of(job.budget)
    costs = cost_table(zoo, num_classes, job.budget, store).measuring(budget.measures)
    rows = []
    for name, model in zoo.items():
        recipe = Recipe.whole(name, len(graph_of(model)))
        outcome, cost = scorer(recipe), costs.cost(recipe)
        rows.append(
            {
                "model": name,
                "score": outcome.scores.get(proxy),
                "params": cost.params,
                "macs": cost.macs,
                "in_budget": budget.admits(cost) and budget.licensed(costs.licenses[name]),
                "reason": outcome.reason,
            }
        )
    return sorted(rows, key=lambda r: -float("inf") if r["score"] is None else r["score"])[::-1]
