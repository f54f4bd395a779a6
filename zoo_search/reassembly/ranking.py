"""The zoo models themselves on the target data, without training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypedDict

from zoo_search.config import JobConfig
from zoo_search.core.errors import UserError, first_line
from zoo_search.core.progress import progress
from zoo_search.core.store import RunStore
from zoo_search.data.base import Subset
from zoo_search.networks.parents import Models, Parents
from zoo_search.networks.recipe import Recipe
from zoo_search.networks.target_images import load_target
from zoo_search.reassembly.costing import budget_of, cost_table
from zoo_search.reassembly.proxies import find_proxies
from zoo_search.reassembly.proxies.cross_validation import CrossValidated, cross_validated
from zoo_search.reassembly.proxies.readout import pooled_features
from zoo_search.reassembly.scoring import Scorer, Scoring, ScoringTask


class RankedModel(TypedDict):
    """A zoo model with its score: None with a reason where it has none.

    ``expected_accuracy`` with its ``standard_error`` is that of a linear head on the frozen
    features, by cross-validation over ``held_out`` images in ``folds`` parts; ``guessed`` is what
    naming the most frequent class would get. All are None or 0 where that was not asked for, or
    cannot be had.
    """

    model: str
    score: float | None
    params: int
    macs: int
    in_budget: bool
    reason: str
    expected_accuracy: float | None
    standard_error: float | None
    held_out: int
    folds: int
    guessed: float | None


def rank(
    zoo: Models,
    target: Subset,
    num_classes: int,
    proxy: str,
    job: JobConfig,
    store: RunStore | None = None,
    parts: Mapping[str, Recipe] | None = None,
    *,
    validate: bool = False,
) -> list[RankedModel]:
    """Return the zoo models by a training-free score on target images, best first.

    ``parts`` are other recipes of one model each, by name, that are ranked among them, or in the
    place of a model of that name. With ``validate`` each has an expected accuracy.

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
    models = {name: Recipe.whole(name, len(parent.graph)) for name, parent in parents.items()}

    def row(name: str, recipe: Recipe) -> RankedModel:
        outcome, cost = scorer(recipe), costs.cost(recipe)
        found, reason = _expected(scorer, recipe) if validate else (None, "")
        licensed = budget.licensed(parents[recipe.blocks[0].model].license)
        return RankedModel(
            model=name,
            score=outcome.scores.get(proxy),
            params=cost.params,
            macs=cost.macs,
            in_budget=budget.admits(cost) and licensed,
            reason="; ".join(filter(None, (outcome.reason, reason))),
            expected_accuracy=None if found is None else found.accuracy,
            standard_error=None if found is None else found.standard_error,
            held_out=0 if found is None else found.images,
            folds=0 if found is None else found.folds,
            guessed=None if found is None else found.guessed,
        )

    rows, models = [], models | dict(parts or {})
    with progress("scoring the zoo models", len(models)) as bar:
        for name, recipe in models.items():
            rows.append(row(name, recipe))
            bar.advance(note=name)
    return sorted(rows, key=lambda found: math.inf if found["score"] is None else -found["score"])


def _expected(scorer: Scorer, recipe: Recipe) -> tuple[CrossValidated | None, str]:
    """Return what a head on a network's features would get right, or why that is not known."""
    try:
        net = scorer.task.assembled(recipe, scorer.fitter)
        features, labels = pooled_features(net, scorer.batches), scorer.batches.labels_of()
        found = cross_validated(features, labels, scorer.task.scoring.seed)
    except (UserError, RuntimeError, ValueError) as error:
        return None, f"expected accuracy: {first_line(error)}"
    return found, "" if found else "expected accuracy: no class has two images"
