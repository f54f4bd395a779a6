"""The zoo models themselves on the target data, without training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypedDict

from zoo_search.config import JobConfig
from zoo_search.core.store import RunStore
from zoo_search.data.base import Subset
from zoo_search.networks.parents import Models, Parents
from zoo_search.networks.recipe import Recipe
from zoo_search.networks.target_images import load_target
from zoo_search.reassembly.costing import budget_of, cost_table
from zoo_search.reassembly.proxies import find_proxies
from zoo_search.reassembly.scoring import Scorer, Scoring, ScoringTask


class RankedModel(TypedDict):
    """A zoo model with its score: None with a reason where it has none."""

    model: str
    score: float | None
    params: int
    macs: int
    in_budget: bool
    reason: str


def rank(
    zoo: Models,
    target: Subset,
    num_classes: int,
    proxy: str,
    job: JobConfig,
    store: RunStore | None = None,
    parts: Mapping[str, Recipe] | None = None,
) -> list[RankedModel]:
    """Return the zoo models by a training-free score on target images, best first.

    ``parts`` are other recipes of one model each, by name, that are ranked among them, or in the
    place of a model of that name.

    Models of equal scores come in the order of the zoo, those without a score last. The run file's
    budget, seed and search batches count; the store may hold latencies measured before.

    Raises:
        UserError: If the proxy is unknown or there are too few images.
    """
    config, parents = job.search, dict(Parents(zoo))
    scoring = Scoring(
        find_proxies([proxy], "proxy"), "random",
        config.fit_images, config.batches, config.batch_size, job.seed,
    )  # fmt: skip
    images, labels = load_target(target, parents, scoring.batch_images)
    scorer = Scorer(ScoringTask(parents, images, labels, num_classes, scoring))
    budget = budget_of(job.budget)
    costs = cost_table(parents, num_classes, job.budget, store).measuring(budget.measures)
    rows = []
    models = {name: Recipe.whole(name, len(parent.graph)) for name, parent in parents.items()}
    for name, recipe in (models | dict(parts or {})).items():
        outcome, cost = scorer(recipe), costs.cost(recipe)
        rows.append(
            RankedModel(
                model=name,
                score=outcome.scores.get(proxy),
                params=cost.params,
                macs=cost.macs,
                in_budget=budget.admits(cost)
                and budget.licensed(parents[recipe.blocks[0].model].license),
                reason=outcome.reason,
            )
        )
    return sorted(rows, key=lambda row: math.inf if row["score"] is None else -row["score"])
