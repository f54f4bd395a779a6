"""Which networks race: the best candidates, and the baselines they have to beat."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from zoo_search.config import JobConfig
from zoo_search.core.errors import UserError
from zoo_search.core.progress import console
from zoo_search.core.store import RunStore
from zoo_search.data.base import VisionDataset
from zoo_search.finetune.entries import Entry
from zoo_search.networks.recipe import Recipe
from zoo_search.partitions.result import Partition
from zoo_search.reassembly import Candidate, best_first, rank, step
from zoo_search.reassembly.costing import open_space
from zoo_search.reassembly.space import Space, SpaceUnion
from zoo_search.zoo import Zoo
from zoo_search.zoo.load import load_model

OneOrMore = Partition | Sequence[Partition]

_BLOCKS_APART = 2
"""Blocks by which two winners differ, unless they differ in enough of their multiply-adds."""


def select_entries(
    job: JobConfig, store: RunStore, zoo: Zoo, dataset: VisionDataset, partition: OneOrMore
) -> tuple[list[Entry], Callable[[], list[Entry]]]:
    """Return what is to be fine-tuned, reassemblies first, and what gives further ones of these.

    - ``reassembly``: ``finetune.candidates`` of the best by the first proxy that are of two models
      or more, each far enough from those before it (:func:`apart`): else all of them would be one
      and the same shot. Each call of what is returned gives as many more, the next best ones.
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
    count = max(job.finetune.candidates, job.finetune.winners)
    spread = apart(mixed, zoo, job.finetune.least_difference)
    winners = list(islice(spread, count))
    if len(winners) < min(count, len(mixed)):
        console.print(
            f"  {len(winners)} reassemblies race, not {count}: the other "
            f"{len(mixed) - len(winners)} differ from these in one block of less than "
            f"{job.finetune.least_difference:.0%} of their multiply-adds "
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

    def more() -> list[Entry]:
        return [_reassembly(candidate, next(places)) for candidate in islice(spread, count)]

    return chosen + _plain(job, zoo), more


def _reassembly(candidate: Candidate, place: int) -> Entry:
    return Entry(f"reassembly {place}", "reassembly", candidate.recipe, dict(candidate.scores))


def apart(candidates: Iterable[Candidate], zoo: Zoo, least: float) -> Iterator[Candidate]:
    """Yield candidates of which no two are nearly the same network, in their order.

    Two are far enough apart if each holds two blocks or more that the other does not hold, or if
    nodes that make up the share ``least`` of the multiply-adds of one of them are not in the other.
    """
    chosen: list[Candidate] = []
    for candidate in candidates:
        if all(
            _blocks_apart(candidate.recipe, other.recipe) >= _BLOCKS_APART
            or share_apart(candidate.recipe, other.recipe, zoo) >= least
            for other in chosen
        ):
            chosen.append(candidate)
            yield candidate


def _blocks_apart(first: Recipe, second: Recipe) -> int:
    ours, theirs = set(first.blocks), set(second.blocks)
    return min(len(ours - theirs), len(theirs - ours))


def share_apart(first: Recipe, second: Recipe, zoo: Zoo) -> float:
    """Return the share of a recipe's multiply-adds that nodes have which the other does not hold.

    It is the larger one of the two; stitches and heads do not count.
    """
    ours, theirs = _nodes(first, zoo), _nodes(second, zoo)
    shared = sum(macs for node, macs in ours.items() if node in theirs)
    return 1 - shared / max(1, sum(ours.values()), sum(theirs.values()))


def _nodes(recipe: Recipe, zoo: Zoo) -> dict[tuple[str, int], int]:
    """Return the multiply-adds of the nodes of a recipe, by model and place."""
    return {
        (block.model, place): zoo[block.model].graph.nodes[place].macs
        for block in recipe.blocks
        for place in range(block.start, block.stop)
    }


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
