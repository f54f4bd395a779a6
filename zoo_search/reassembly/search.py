"""The search: candidates within the budget, scored without training (DeRy section 3.3)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from zoo_search.hooks import Init, as_hooks
from zoo_search.reassembly.candidates import Candidate, best_first
from zoo_search.reassembly.cost import Budget, CostTable
from zoo_search.reassembly.proxies import check_proxies, conditions
from zoo_search.reassembly.recipe import HasGraph
from zoo_search.reassembly.samplers import SAMPLERS, check_sampler
from zoo_search.reassembly.scoring import Task, rehearse, scoring_zoo
from zoo_search.reassembly.space import PartitionLike, Space
from zoo_search.reassembly.target import load_target

if TYPE_CHECKING:
    from zoo_search.data.base import Subset
    from zoo_search.linegraph.graph import LineGraph

__all__ = ["SAMPLERS", "SearchResult", "conditions_of", "run_search", "search"]


_REHEARSED = 10  # candidates that a user's hook must all fail on to be taken for broken


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        candidates: In the order in which they were proposed, zoo models first.
        note: What the user should know: resumed, or all there is; else empty.
    """

    candidates: list[Candidate]
    note: str


def search(
    parts: PartitionLike,
    zoo: Mapping[str, LineGraph | HasGraph],
    target: Subset | tuple[Tensor, Tensor],
    budget: Budget | None = None,
    trials: int = 500,
    *,
    num_classes: int | None = None,
    sampler: str = "tpe",
    proxies: Sequence[str] = ("naswot",),
    init: Init = "least_squares",
    fit_images: int = 256,
    batches: int = 5,
    batch_size: int = 32,
    workers: int | None = None,
    seed: int = 0,
) -> list[Candidate]:
    """Score reassemblies of a partition within a budget; best first, then those that failed.

    The zoo models within the budget are scored first and on top of ``trials``. Starts or joins
    Ray (:func:`zoo_search.engine.connect`).

    Args:
        parts: Partition of the zoo.
        zoo: Models by name.
        target: Training images: a data subset, or raw images uint8 ``[N, 3, H, W]`` with labels
            ``[N]``.
        budget: Limits; default: none.
        trials: Different reassemblies to score; all of them if there are fewer.
        num_classes: Default: those of the subset, or the largest label + 1.
        sampler: ``"tpe"`` (Optuna, on the score), ``"nsga2"`` (Optuna, score against GMACs),
            ``"cpsat"`` (a surrogate maximised by integer programming) or ``"random"``.
        proxies: Names (:data:`zoo_search.reassembly.proxies.PROXIES`); the first one ranks.
        init: How stitches and heads start: a hook or an ordered list of hooks
            (:func:`zoo_search.reassembly.assemble`).
        fit_images: Images that the stitches are fitted on.
        batches: Batches a score.
        batch_size: Images a batch.
        workers: Ray actors; default: one a CPU, or one a GPU.
        seed: Seed of everything.

    Raises:
        UserError: If a name is unknown, no recipe is feasible, or there are too few images.
    """
    most = max(fit_images, 4 * batches * batch_size)
    images, labels = load_target(target, zoo, most)
    if num_classes is None:
        classes = getattr(target, "classes", None)
        num_classes = len(classes) if classes is not None else int(labels.max()) + 1
    space = Space(parts, CostTable(zoo, num_classes), budget or Budget())
    task = Task(
        scoring_zoo(zoo), images, labels, num_classes, tuple(proxies), as_hooks(init), fit_images,
        batches, batch_size, seed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="zoo-search-") as folder:
        journal = Path(folder) / "study.journal"
        found = run_search(space, task, trials, sampler, journal, workers=workers)
    ranked = best_first(found.candidates, proxies[0])
    return ranked + [c for c in found.candidates if c.state == "failed"]


def run_search(
    space: Space,
    task: Task,
    trials: int,
    sampler: str,
    journal: Path,
    *,
    workers: int | None = None,
    made_from: str = "",
    storage: str | None = None,
    name: str = "zoo-search",
    on_told: Callable[[], None] = lambda: None,
) -> SearchResult:
    """Run one search as a Ray Tune experiment with an Optuna study in ``journal``.

    A study of the same ``made_from`` is gone on with: what it holds is not scored again.

    Args:
        space: Feasible recipes.
        task: How they are scored.
        trials: Reassemblies to score; the zoo models within the budget come first and on top.
        sampler: One of :data:`zoo_search.reassembly.samplers.SAMPLERS`.
        journal: Journal file of the study.
        workers: Ray actors; default: one a CPU, or one a GPU.
        made_from: What says that two searches are the same.
        storage: URL of an Optuna storage to use instead of the journal.
        name: Name of the study in that storage.
        on_told: Called after every candidate that has entered the study.

    Raises:
        UserError: If the sampler or a proxy is unknown, no recipe is feasible, the storage cannot
            be opened, the target has too few different images, or a user's init hook fails.
    """
    from zoo_search import engine
    from zoo_search.progress import progress
    from zoo_search.reassembly.proxies import Batches
    from zoo_search.reassembly.study import Asked, SearchStudy

    check_proxies(task.proxies)
    check_sampler(sampler)
    Batches(task.images, task.labels, task.batches, task.batch_size, task.seed)
    study = SearchStudy(
        space, journal, trials, sampler, task.seed, made_from, task.proxies,
        storage=storage, name=name, conditions=conditions_of(task),
    )  # fmt: skip
    if study.expected:
        from zoo_search.reassembly.tuning import run_trials

        hooks = as_hooks(task.init)
        if any(not hook.ours and "candidate" in hook.roles for hook in hooks):
            rehearse(task, space.sample(_REHEARSED, task.seed))
        for hook in hooks:
            engine.ship(hook.call)
        have = engine.connect()
        gpu = have.gpus > 0
        actors = max(1, min(workers or have.gpus or have.cpus, study.expected))
        with progress("scoring candidates", study.expected) as bar:

            def told(asked: Asked, outcome: Any) -> None:
                bar.advance(note=outcome.reason)
                on_told()

            run_trials(study, task, actors, gpu, told)
    candidates = _first_trials(study.candidates(), trials)
    return SearchResult(candidates, _note(candidates, trials, study.resumed))


def conditions_of(task: Task) -> dict[str, Any]:
    """Return what the scores of a search are taken under, by proxy."""
    return {
        name: conditions(name, batches=task.batches, batch_size=task.batch_size, seed=task.seed)
        for name in task.proxies
    }


def _first_trials(candidates: Sequence[Candidate], trials: int) -> list[Candidate]:
    """Return the zoo models and the first ``trials`` reassemblies: a journal may hold more."""
    kept, left = [], trials
    for candidate in candidates:
        if candidate.kind == "reassembly":
            left -= 1
        if candidate.kind == "zoo" or left >= 0:
            kept.append(candidate)
    return kept


def _note(candidates: Sequence[Candidate], trials: int, resumed: int) -> str:
    parts = []
    if resumed:
        parts.append(f"{resumed} candidates were in the study already")
    scored = sum(c.kind == "reassembly" for c in candidates)
    if scored < trials:
        parts.append(f"the space holds {scored} reassemblies within the budget: all were scored")
    failed = sum(c.state == "failed" for c in candidates)
    if failed:
        parts.append(f"{failed} candidates failed (column 'reason')")
    return "; ".join(parts)
