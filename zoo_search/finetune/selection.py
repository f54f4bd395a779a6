"""Which networks race: the best candidates, and the baselines they have to beat."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice

from zoo_search.config import JobConfig
from zoo_search.core.errors import UserError
from zoo_search.core.progress import console
from zoo_search.core.store import RunStore
from zoo_search.data.base import VisionDataset
from zoo_search.finetune.entries import Entry, Expected, Raced
from zoo_search.finetune.race.apart import apart
from zoo_search.finetune.race.further import next_ones
from zoo_search.networks.recipe import Recipe
from zoo_search.partitions.result import Partition
from zoo_search.reassembly import Candidate, best_first, rank, step
from zoo_search.reassembly.costing import open_space
from zoo_search.reassembly.space import Space, SpaceUnion
from zoo_search.zoo import Zoo
from zoo_search.zoo.load import load_model

OneOrMore = Partition | Sequence[Partition]


def select_entries(
    job: JobConfig, store: RunStore, zoo: Zoo, dataset: VisionDataset, partition: OneOrMore
) -> tuple[list[Entry], Callable[[Sequence[Raced]], list[Entry]]]:
    """Return what is to be fine-tuned, reassemblies first, and what gives further ones of these.

    - ``reassembly``: ``finetune.candidates`` of the best by the first proxy that are of two models
      or more, each far enough from those before it (:func:`apart`): else all of them would be one
      and the same shot. With ``finetune.brackets`` these are the first of so many parts. Each call
      of what is returned gives another part, taken by what the race has shown until then
      (:func:`~zoo_search.finetune.race.further.next_ones`).
    - ``single``: all zoo models within the budget, those first whose frozen features classify the
      training images best (proxy ``probe``). Where recipes may end early, the first blocks of a
      model are among them: they take no reassembling.
    - ``random``: as many feasible recipes of at least two models as winners, drawn uniformly, that
      are not among the reassemblies: the best of so many shots, as the winner is.
    - ``plain``: the architectures of ``finetune.plain``, whatever they cost: with weights under a
      head that is started as all are, without weights filled by the init hooks under a random head.

    Raises:
        UserError: If no reassembly was scored, or a plain architecture cannot be built and cut.
    """
    proxy = job.search.proxies[0]
    candidates = step.read(store)
    ranked = best_first(candidates, proxy)
    mixed = [c for c in ranked if c.kind == "reassembly"]
    least, parts = job.finetune.least_difference, job.finetune.brackets
    count = max(job.finetune.candidates, job.finetune.winners)
    sizes = [count // parts + (place < count % parts) for place in range(parts)]
    count = sizes[0]
    winners = list(islice(apart(mixed, zoo, least), count))
    if len(winners) < min(count, len(mixed)):
        console.print(
            f"  {len(winners)} reassemblies race, not {count}: the other "
            f"{len(mixed) - len(winners)} differ from these in one block of less than "
            f"{least:.0%} of their multiply-adds "
            "(finetune.least_difference)"
        )
    if not winners:
        reasons = Counter(c.reason for c in candidates if c.state == "failed")
        why = "Widen the budget, or add models to the zoo."
        if reasons:
            reason, count = reasons.most_common(1)[0]
            why = f"{sum(reasons.values())} candidates failed, {count} of them with: {reason}"
            why += ". Mend that, or choose another proxy." if reason[-1] != "." else ""
        raise UserError(
            f"No reassembly of {store.url} has a score by '{proxy}', so there is nothing to "
            f"fine-tune. {why}"
        )
    places = itertools.count(1)
    chosen = [_reassembly(candidate, next(places)) for candidate in winners]
    if "best_single" in job.finetune.baselines:
        chosen += _single(job, store, zoo, dataset, partition, candidates)
    if "random" in job.finetune.baselines:
        chosen += _random(job, store, zoo, dataset, partition, winners)

    begun, brackets = [*winners], itertools.count(1)
    scores = {c.recipe.key: c.scores for c in candidates}

    def more(raced: Sequence[Raced]) -> list[Entry]:
        place = next(brackets)
        wanted = sizes[place] if place < parts else sizes[0]
        found = next_ones(mixed, begun, raced, wanted, scores, zoo, least)
        begun.extend(candidate for candidate, _ in found)
        return [_reassembly(candidate, next(places), one) for candidate, one in found]

    return chosen + _plain(job, zoo), more


def _reassembly(candidate: Candidate, place: int, expected: Expected | None = None) -> Entry:
    name, scores = f"reassembly {place}", dict(candidate.scores)
    return Entry(name, "reassembly", candidate.recipe, scores, expected=expected)


def _plain(job: JobConfig, zoo: Zoo) -> list[Entry]:
    chosen = []
    donors = {name: model for name, model in zoo.items() if model.spec.weights is not None}
    for name, entry in job.finetune.plain.items():
        model = load_model(entry, name, job, donors, "plain")
        recipe = Recipe.whole(name, len(model.graph))
        init = () if entry.weights is None else entry.init
        chosen.append(Entry(name, "plain", recipe, models={name: model}, init=init))
    return chosen


def _single(
    job: JobConfig,
    store: RunStore,
    zoo: Zoo,
    dataset: VisionDataset,
    partition: OneOrMore,
    candidates: list[Candidate],
) -> list[Entry]:
    train = dataset.select("train", seed=job.seed)
    scored = {c.recipe.key: c.scores for c in candidates}
    space = _space(job, store, zoo, dataset, partition)
    starts = {str(recipe): recipe for recipe in space.prefixes}
    if space.taps == "blocks":  # models, too, with a head on their blocks; of several cuts the most
        starts |= {recipe.models[0]: recipe for recipe in space.zoo}
    networks = {name: Recipe.whole(name, len(model.graph)) for name, model in zoo.items()} | starts
    chosen = []
    for row in rank(zoo, train, len(dataset.classes), "probe", job, store, starts):
        if row["in_budget"] and row["score"] is not None:
            recipe = networks[row["model"]]
            scores = {**scored.get(recipe.key, {}), "probe": row["score"]}
            chosen.append(Entry(row["model"], "single", recipe, scores))
    return chosen


def _space(
    job: JobConfig, store: RunStore, zoo: Zoo, dataset: VisionDataset, partition: OneOrMore
) -> Space | SpaceUnion:
    """Return the recipes that the search chose from."""
    classes, search = len(dataset.classes), job.search
    return open_space(partition, zoo, classes, job.budget, store, search.prefixes, search.head)


def _random(
    job: JobConfig,
    store: RunStore,
    zoo: Zoo,
    dataset: VisionDataset,
    partition: OneOrMore,
    winners: list[Candidate],
) -> list[Entry]:
    space = _space(job, store, zoo, dataset, partition)
    taken = {c.recipe.key for c in winners}
    # Each zoo model, and each start of one, is at most one recipe of the space.
    count = job.finetune.winners
    drawn = space.sample(count + len(taken) + len(zoo) + len(space.prefixes), job.seed)
    free = [r for r in drawn if r.key not in taken and len(r.runs) > 1]
    names = ["random recipe", *(f"random recipe {n}" for n in range(2, count + 1))]
    return [Entry(name, "random", recipe, {}) for name, recipe in zip(names, free, strict=False)]
