"""The step ``finetune`` of a run: winners and baselines through Ray Train, onto disk."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo_search.core.errors import UserError, nearest
from zoo_search.finetune.entries import COMPARED, Entry, GivenUp, Raced, Result
from zoo_search.finetune.race.hold import hold_race
from zoo_search.finetune.starts import Starts
from zoo_search.finetune.tuning import Tuning
from zoo_search.finetune.variants import fill_variant, plan_variant

if TYPE_CHECKING:
    from zoo_search.cluster.hosts import Hosts
    from zoo_search.config import JobConfig
    from zoo_search.core.store import RunStore
    from zoo_search.data.base import VisionDataset
    from zoo_search.zoo.models import Zoo


def run(
    entries: Sequence[Entry],
    zoo: Zoo,
    dataset: VisionDataset,
    job: JobConfig,
    store: RunStore,
    *,
    more: Callable[[Sequence[Raced]], Sequence[Entry]] = lambda raced: (),
    deadline: float | None = None,
    hours: float | None = None,
    hosts: Hosts | None = None,
) -> list[Result]:
    """Fine-tune entries and the job's variants; write ``winners.json`` and ``winners/<i>/``.

    Reassemblies, single models and random recipes race (:mod:`zoo_search.finetune.race.hold`):
    ``finetune.winners`` of each come to the end of their training, and the best of these,
    ``finetune.finalists``, are trained with the other seeds, too. What others name as their origin
    comes to the end in any case, and what does not race is trained with all seeds. Each training
    starts from stitches and a head that were fitted to the images
    that it trains on, and is judged on others. These choose the weights that a training ends with,
    the finalists, which training of a network is exported, and, in the verdict, the best network of
    a role; the test images choose nothing. With ``finetune.retrain`` the best network of each role
    is trained once more, on all training images, and these trainings are what is told of it.

    A run that was killed goes on with the trainings that were not finished, and with the one in
    work from its last checkpoint; what an earlier run of the same directory has fine-tuned in the
    same way is taken over. The same network under two roles is trained once. A network of which a
    training diverges is named in ``winners.json``; the others go on. Workers on other machines have
    to reach the store, too.

    Args:
        more: Gives the entries of a further bracket, by what the race has shown until then.
        deadline: When the results are wanted, on the clock of :func:`time.monotonic`: the race goes
            on as long as that allows.
        hours: That the run has in all; a race that was over is held anew for more of them only.
        hosts: Processes of the run, which the race trains on.

    Raises:
        UserError: If no reassembly comes to its end, something has to be mended before a training
            can go on, or a variant cannot be made.
    """
    names = [entry.name for entry in entries]
    for name, change in job.finetune.variants.items():
        if change.of not in names:
            raise UserError(
                f"finetune.variants.{name}.of: no network '{change.of}' is fine-tuned."
                f"{nearest(change.of, names)} Allowed: {', '.join(names)}."
            )
    parents = {change.of for change in job.finetune.variants.values()}
    starts = Starts(zoo, dataset, job)
    tuning = Tuning(starts, dataset, job, store)
    begun = starts.first(entries)
    winners = {start.entry.name: start for start in begun}
    planned = [
        plan_variant(name, change, winners[change.of].network, len(dataset.classes), job)
        for name, change in job.finetune.variants.items()
    ]
    # Hooks that fail, or fill nothing, are found before the training, on copies.
    for variant in planned:
        winner = winners[str(variant.of)].network
        fill_variant(replace(variant, net=copy.deepcopy(variant.net)), winner, "", job.seed)
    racing = [start for start in begun if start.entry.role in COMPARED]
    outcome = hold_race(
        racing,
        starts,
        job,
        store,
        more=more,
        stay=parents,
        deadline=deadline,
        hours=hours,
        hosts=hosts,
    )
    others = starts.with_all_seeds([start for start in begun if start not in racing])
    going_on = [*outcome.ahead, *others]
    winners = {start.entry.name: start for start in going_on}
    results, failed = tuning.train(going_on)
    given_up = [*outcome.given_up, *failed]
    by_name = {result.name: result for result in results}
    changed = []
    for variant in planned:
        if variant.of not in by_name:
            reason = f"'{variant.of}' came to no end"
            given_up.append(GivenUp(variant.entry.name, "variant", reason))
            continue
        changed.append(tuning.change(variant, winners[variant.of], by_name[variant.of]))
    further, failed = tuning.train(changed)
    results, given_up = [*results, *further], [*given_up, *failed]
    if not any(result.role == "reassembly" for result in results):
        raise UserError(f"No reassembly could be fine-tuned: {given_up[0].reason}")
    if job.finetune.retrain:
        results = tuning.retrain(results, winners)
    every = {**winners, **{start.entry.name: start for start in changed}}
    results = [
        tuning.export(result, every[result.name].network, f"winners/{number}")
        for number, result in enumerate(results)
    ]
    tuning.write(results, given_up, outcome.raced)
    return results
