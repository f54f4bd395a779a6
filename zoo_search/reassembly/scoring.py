"""Scoring recipes in one process: the blocks are held once, a stitch is fitted once a joint."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zoo_search.errors import UserError, first_line
from zoo_search.hooks import Init
from zoo_search.linegraph.graph import LineGraph
from zoo_search.reassembly.assemble import assemble
from zoo_search.reassembly.cache import TensorCache
from zoo_search.reassembly.features import Images, StitchFitter, StitchKeeper
from zoo_search.reassembly.network import ReassembledNet
from zoo_search.reassembly.proxies import Batches, score
from zoo_search.reassembly.recipe import HasGraph, Recipe, graph_of

__all__ = ["Outcome", "Scorer", "ScoringModel", "Task", "rehearse", "scoring_zoo"]

_CACHE_BYTES = 2**29  # each of the two caches of a scorer


@dataclass(frozen=True, eq=False)
class ScoringModel:
    """What scoring needs of a zoo model, and nothing else."""

    graph: LineGraph
    transform: Any = None


def scoring_zoo(zoo: Mapping[str, LineGraph | HasGraph]) -> dict[str, ScoringModel]:
    """Return what scoring needs of a zoo."""
    return {
        name: ScoringModel(graph_of(model), getattr(model, "transform", None))
        for name, model in zoo.items()
    }


@dataclass(frozen=True, eq=False)
class Task:
    """How candidates are scored.

    Attributes:
        zoo: Models by name.
        images: Target training images (see :mod:`zoo_search.reassembly.features`).
        labels: ``[N]`` class indices, or None.
        num_classes: Classes of the target head.
        proxies: Names of the proxies.
        init: How stitches and heads start; hooks that only this process knows by name have to be
            given as :func:`zoo_search.hooks.as_hooks` returns them.
        fit_images: The first so many images fit the stitches.
        batches: Batches a score.
        batch_size: Images a batch.
        seed: Seed of batches, random stitches and heads.
        keeper: Keeps fitted stitches for other workers and other runs.
    """

    zoo: Mapping[str, ScoringModel]
    images: Images
    labels: Tensor | None
    num_classes: int
    proxies: Sequence[str] = ("naswot",)
    init: Init = "least_squares"
    fit_images: int = 256
    batches: int = 5
    batch_size: int = 32
    seed: int = 0
    keeper: StitchKeeper | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of scoring one recipe.

    Attributes:
        scores: By proxy; those that failed are missing.
        reason: Why any failed, else empty.
        seconds: Time to assemble and score.
        init: Reports of the init hooks, as plain values.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0
    init: Sequence[Mapping[str, Any]] = ()


class Scorer:
    """Scores recipes; the same seed gives the same scores in any order and in any process."""

    def __init__(self, task: Task, device: str = "cpu") -> None:
        self.task = task
        for model in task.zoo.values():
            for node in model.graph:
                node.module.eval().to(device)
            model.graph.head.eval().to(device)
        self.batches = Batches(
            task.images,
            task.labels,
            task.batches,
            task.batch_size,
            task.seed,
            cache=TensorCache(_CACHE_BYTES),
            zoo=task.zoo,
        )
        self.fitter = StitchFitter(
            task.zoo,
            _head_of(task.images, task.fit_images),
            max_bytes=_CACHE_BYTES,
            keeper=task.keeper,
        )

    def __call__(self, recipe: Recipe) -> Outcome:
        """Score one recipe. An error or a score that is not finite is a reason, not a score."""
        started = time.perf_counter()
        task, scores, reasons = self.task, {}, []
        try:
            net = _assembled(task, recipe, self.fitter)
        except (UserError, RuntimeError, ValueError) as error:
            return Outcome({}, _say("assembly", error), time.perf_counter() - started)
        for proxy in task.proxies:
            try:
                scores[proxy] = score(net, proxy, self.batches)
            except (RuntimeError, ValueError, NotImplementedError) as error:
                reasons.append(_say(proxy, error))
        init = [report.as_dict() for report in net.init_reports]
        return Outcome(scores, "; ".join(reasons), time.perf_counter() - started, init)


def rehearse(task: Task, recipes: Sequence[Recipe]) -> None:
    """Start candidates, as their scoring would, until one works.

    So a user's hook that fails on whatever it is given is found before the search, and not as the
    reason of every candidate.

    Args:
        task: How candidates are scored.
        recipes: Candidates to try, at least one.

    Raises:
        UserError: If none works: what was wrong with the first.
    """
    fitter = StitchFitter(task.zoo, _head_of(task.images, task.fit_images), keeper=task.keeper)
    errors = []
    for recipe in recipes:
        try:
            _assembled(task, recipe, fitter)
            return
        except UserError as error:
            errors.append(error)
    raise errors[0]


def _assembled(task: Task, recipe: Recipe, fitter: StitchFitter) -> ReassembledNet:
    """Return the network of a candidate, on the zoo's own blocks."""
    return assemble(
        recipe,
        task.zoo,
        task.init,
        num_classes=task.num_classes,
        seed=task.seed,
        fitter=fitter,
        copy_blocks=False,
    )


def _head_of(images: Images, count: int) -> Images:
    if isinstance(images, torch.Tensor):
        return images[:count]
    return {name: x[:count] for name, x in images.items()}


def _say(what: str, error: Exception) -> str:
    return f"{what}: {first_line(error)}"
