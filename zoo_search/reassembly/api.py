"""The search: candidates within the budget, scored without training (DeRy section 3.3)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from zoo_search.core.progress import progress
from zoo_search.costs.budget import Budget
from zoo_search.costs.table import CostTable
from zoo_search.data.base import Subset
from zoo_search.hooks import Init, as_hooks
from zoo_search.networks.parents import Models, Parents
from zoo_search.networks.recipe import Taps
from zoo_search.networks.target_images import load_target
from zoo_search.partitions.result import Partition
from zoo_search.reassembly.candidates import Candidate, Outcome, best_first
from zoo_search.reassembly.journal import StudyPlace
from zoo_search.reassembly.proxies import find_proxies
from zoo_search.reassembly.samplers import SAMPLERS
from zoo_search.reassembly.scoring import Scoring, ScoringTask, check_hooks
from zoo_search.reassembly.space.space import Space, SpaceUnion, make_space

if TYPE_CHECKING:
    from zoo_search.cluster.hosts import Hosts
    from zoo_search.reassembly.study import SearchStudy

_TRIED = 10  # candidates that a user's hook must all fail on to be taken for broken


@dataclass(frozen=True)
class SearchResult:
    """What a search found: candidates in the order in which they were proposed, zoo models first.

    ``note`` is what the user should know: resumed, or all there is; else empty.
    """

    candidates: list[Candidate]
    note: str


def search(
    parts: Partition | Sequence[Partition],
    zoo: Models,
    target: Subset | tuple[Tensor, Tensor],
    budget: Budget | None = None,
    trials: int = 500,
    *,
    num_classes: int | None = None,
    sampler: str = "tpe",
    proxies: Sequence[str] = ("probe",),
    init: Init = "least_squares",
    fit_images: int = 256,
    batches: int = 5,
    batch_size: int = 32,
    workers: int | None = None,
    seed: int = 0,
    prefixes: bool = False,
    head: Taps = "last",
) -> list[Candidate]:
    """Score reassemblies of a partition within a budget; best first, then those that failed.

    The zoo models within the budget are scored first and on top of ``trials``. Starts or joins
    Ray (:func:`zoo_search.cluster.connection.connect`).

    Args:
        parts: Partition of the zoo, or several, whose recipes are searched together.
        zoo: Models by name: of a zoo, or their line graphs alone.
        target: Training images: a data subset, or raw images uint8 ``[N, 3, H, W]`` with labels
            ``[N]``.
        budget: Limits; default: none.
        trials: Different reassemblies to score; all of them if there are fewer.
        num_classes: Default: those of the subset, or the largest label + 1.
        sampler: ``"tpe"`` (Optuna, on the score), ``"nsga2"`` (Optuna, score against GMACs),
            ``"cpsat"`` (a surrogate maximised by integer programming) or ``"random"``.
        proxies: Names (:data:`zoo_search.reassembly.proxies.PROXIES`); the first one ranks.
        init: How stitches and heads start: a hook or an ordered list of hooks
            (:func:`zoo_search.networks.assemble`).
        fit_images: Images that the stitches are fitted on.
        batches: Batches a score.
        batch_size: Images a batch.
        workers: Ray actors; default: one a CPU, or one a GPU.
        seed: Seed of everything.
        prefixes: Recipes may end after any stage, and the first blocks of each model are scored on
            top as the models are.
        head: What the heads of all candidates read: ``"last"``, the last block, or ``"blocks"``,
            every block.

    Raises:
        UserError: If a name is unknown, no recipe is feasible, or there are too few images.
    """
    scoring = Scoring(find_proxies(proxies), as_hooks(init), fit_images, batches, batch_size, seed)
    images, labels = load_target(target, zoo, max(fit_images, scoring.batch_images))
    if num_classes is None:
        num_classes = int(labels.max()) + 1 if isinstance(target, tuple) else len(target.classes)
    costs = CostTable(zoo, num_classes)
    space = make_space(parts, costs, budget or Budget(), early=prefixes, taps=head)
    task = ScoringTask(dict(Parents(zoo)), images, labels, num_classes, scoring)
    with tempfile.TemporaryDirectory(prefix="zoo-search-") as folder:
        place = StudyPlace(Path(folder) / "study.journal")
        found = run_search(space, task, trials, sampler, place, workers=workers)
    ranked = best_first(found.candidates, next(iter(proxies)))
    return ranked + [c for c in found.candidates if c.state == "failed"]


def run_search(
    space: Space | SpaceUnion,
    task: ScoringTask,
    trials: int,
    sampler: str,
    place: StudyPlace,
    *,
    workers: int | None = None,
    hosts: Hosts | None = None,
    on_told: Callable[[], None] = lambda: None,
) -> SearchResult:
    """Run one search as a Ray Tune experiment with an Optuna study in ``place``.

    A study that is there is gone on with: what it holds is not scored again. The zoo models within
    the budget come before the ``trials`` reassemblies. ``on_told`` is called after every candidate
    that was scored and has entered the study. What earlier searches at that place know and holds
    here is not scored, either (:class:`.known.Known`). Without the ``hosts`` of a run some are
    started and ended here.

    Raises:
        UserError: If the sampler or a proxy is unknown, no recipe is feasible, the storage cannot
            be opened, the target has too few different images, or a user's init hook fails.
    """
    from zoo_search import cluster
    from zoo_search.reassembly.study import SearchStudy

    SAMPLERS.check([sampler], "search.sampler")
    task.batches()
    study = SearchStudy(space, task.scoring, trials, sampler, place)
    study.settle()
    on_told()
    if study.expected:
        from zoo_search.cluster.hosts import borrowed
        from zoo_search.reassembly.tuning import run_trials

        hooks = as_hooks(task.scoring.init)
        if any(not hook.ours and "candidate" in hook.roles for hook in hooks):
            check_hooks(task, space.sample(_TRIED, task.scoring.seed))
        for call in (*(hook.call for hook in hooks), *task.scoring.proxies.values()):
            cluster.ship(call)
        have = cluster.connect()
        count = have.workers(workers, study.expected)
        with progress("scoring candidates", study.expected) as bar, borrowed(hosts) as own:
            scored = 0

            def told(outcome: Outcome) -> None:
                nonlocal scored
                scored += 1
                bar.advance(note=outcome.reason)
                total = scored + study.under_way + study.expected  # less, where some were known
                bar.resize(total, total)
                on_told()

            run_trials(study, task, own, count, have.gpus > 0, told)
    every = study.candidates()  # a journal may hold more reassemblies than are asked for
    surplus = {c.id for c in [c for c in every if c.kind == "reassembly"][study.trials :]}
    candidates = [c for c in every if c.id not in surplus]
    return SearchResult(candidates, _note(candidates, trials, study))


def _note(candidates: Sequence[Candidate], trials: int, study: SearchStudy) -> str:
    parts = []
    if study.resumed:
        parts.append(f"{study.resumed} candidates were in the study already")
    if study.taken_over:
        parts.append(f"{study.taken_over} had been scored by an earlier search")
    if study.completed:
        parts.append(f"{study.completed} had been scored by one, but for some of the proxies")
    scored = sum(c.kind == "reassembly" for c in candidates)
    if scored < trials:
        parts.append(f"the space holds {scored} reassemblies within the budget: all were scored")
    failed = sum(c.state == "failed" for c in candidates)
    if failed:
        parts.append(f"{failed} candidates failed (column 'reason')")
    return "; ".join(parts)
