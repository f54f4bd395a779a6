"""Who races next, in a made-up world whose networks are as good as their blocks."""

from __future__ import annotations

import random
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from zoo_search.finetune.entries import Raced, Seen
from zoo_search.finetune.race.apart import apart, share_apart
from zoo_search.finetune.race.further import guess, next_ones
from zoo_search.networks import BlockRef, Recipe
from zoo_search.reassembly import Candidate

STAGES, NODES = 3, 6
STOPS = (4, 8, 16)
WINNERS = 2


class Graph:
    """A line graph of equal nodes."""

    nodes = [SimpleNamespace(macs=1)] * NODES

    def __len__(self) -> int:
        return NODES


@dataclass
class World:
    """A zoo of five models, and candidates whose accuracy is a sum over models and blocks.

    The proxy agrees with it a little.
    """

    seed: int

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        names = [f"m{n}" for n in range(5)]
        self.zoo: Any = {name: SimpleNamespace(graph=Graph()) for name in names}
        of_model = dict(zip(names, rng.normal(size=5), strict=True))
        of_block = {(name, s): rng.normal() for name in names for s in range(STAGES)}
        recipes, good = [Recipe.whole(name, NODES) for name in names], []
        for choice in rng.permutation(5**STAGES):
            models = [names[choice // 5**s % 5] for s in range(STAGES)]
            if len(set(models)) > 1:
                blocks = (BlockRef(m, 2 * s, 2 * s + 2) for s, m in enumerate(models))
                recipes.append(Recipe(tuple(blocks)))
        for recipe in recipes:
            held = [(b.model, s) for b in recipe.blocks for s in range(b.start // 2, b.stop // 2)]
            good.append(sum(of_model[one[0]] + of_block[one] for one in held) + 0.4 * rng.normal())
        found = np.array(good)
        found = (found - found.mean()) / found.std()
        scores = 0.3 * found + rng.normal(size=len(found))
        self.true = {r.key: 0.7 + 0.08 * float(f) for r, f in zip(recipes, found, strict=True)}
        self.noise = {key: rng.normal(size=len(STOPS)) for key in self.true}
        self.candidates = [
            Candidate(n, r, "zoo" if n < 5 else "reassembly", 1, 1, {"naswot": float(s)},
                      "complete", "", 0.0)
            for n, (r, s) in enumerate(zip(recipes, scores, strict=True))
        ]  # fmt: skip
        mixed = self.candidates[5:]
        self.ranked = sorted(mixed, key=lambda c: -c.scores["naswot"])
        self.scores = {c.recipe.key: c.scores for c in self.candidates}

    def seen(self, candidate: Candidate, number: int) -> float:
        key = candidate.recipe.key
        off = (STOPS[-1] / STOPS[number] - 1) * 0.05
        return min(0.99, max(0.05, self.true[key] - off + 0.02 * float(self.noise[key][number])))

    def race(self, candidates: list[Candidate]) -> list[Raced]:
        """Half of them go on, by what is seen."""
        points: dict[int, list[Seen]] = {c.id: [] for c in candidates}
        running = list(candidates)
        for number, stop in enumerate(STOPS):
            for c in running:
                accuracy = self.seen(c, number)
                points[c.id].append(Seen(stop, accuracy, 2 - 2 * accuracy))
            running.sort(key=lambda c: -points[c.id][-1].validation_accuracy)
            running = running[: max(WINNERS, len(running) // 2)]
        return [
            Raced(str(c.id), "reassembly", c.recipe, 1, tuple(points[c.id])) for c in candidates
        ]

    def next_ones(self, begun: list[Candidate], raced: list[Raced], count: int = 8) -> Any:
        return next_ones(self.ranked, begun, raced, count, self.scores, self.zoo, 0.25)


def test_what_the_race_has_shown_finds_better_networks_than_the_plain_ranking() -> None:
    """Mean regret of the best of the second bracket, and mean of its networks, over 20 worlds."""
    lost: dict[str, list[float]] = {"plain": [], "learned": []}
    means: dict[str, list[float]] = {"plain": [], "learned": []}
    for seed in range(20):
        world = World(seed)
        begun = list(apart(world.ranked, world.zoo, 0.25))[:8]
        raced = world.race(begun) + world.race(world.candidates[:5])
        free = [c for c in world.ranked if c not in begun]
        chosen = {
            "plain": [c for c, _ in world.next_ones(begun, [])],
            "learned": [c for c, _ in world.next_ones(begun, raced)],
        }
        best = max(world.true[c.recipe.key] for c in free)
        for name, some in chosen.items():
            assert len({c.id for c in (*some, *begun)}) == 16
            lost[name].append(best - max(world.true[c.recipe.key] for c in some))
            means[name].append(float(np.mean([world.true[c.recipe.key] for c in some])))
    assert np.mean(lost["learned"]) < 0.7 * np.mean(lost["plain"])
    assert np.mean(means["learned"]) > np.mean(means["plain"]) + 0.02


def test_a_share_is_left_to_the_plain_ranking_and_all_differ() -> None:
    world = World(0)
    begun = list(apart(world.ranked, world.zoo, 0.25))[:8]
    raced = world.race([*begun, *world.candidates[:5]])
    found = world.next_ones(begun, raced)
    plain = list(apart(world.ranked, world.zoo, 0.25))[8:16]
    assert [c.id for c, one in found[:4]] == [c.id for c in plain[:4]]
    assert [one is None for _, one in found] == [True] * 4 + [False] * 4
    every = [c.recipe for c, _ in found] + [c.recipe for c in begun]
    for place, one in enumerate(every):
        for other in every[:place]:
            held = set(one.blocks), set(other.blocks)
            enough = share_apart(one, other, world.zoo) >= 0.25
            assert enough or min(len(held[0] - held[1]), len(held[1] - held[0])) >= 2
    # Where nothing is known, and where too few are left, the ranking goes on.
    assert [c.id for c, _ in world.next_ones(begun, [])] == [c.id for c in plain]
    assert all(one is None for _, one in world.next_ones(begun, []))
    everybody = list(world.ranked)
    assert world.next_ones(everybody, raced) == []


def test_what_is_expected_is_near_to_what_comes() -> None:
    inside, off = [], []
    for seed in range(10):
        world = World(seed)
        begun = world.ranked[:10]
        raced = world.race([*begun, *world.candidates[:5]])
        for candidate, one in world.next_ones(begun, raced):
            if one is not None:
                error = abs(world.true[candidate.recipe.key] - one.validation_accuracy)
                inside.append(error < 2 * one.deviation)
                off.append(error)
    assert np.mean(inside) > 0.8
    assert np.mean(off) < 0.08


def test_the_choice_follows_from_what_is_known_alone() -> None:
    world = World(3)
    begun = world.ranked[:8]
    raced = world.race([*begun, *world.candidates[:5]])
    expected = world.next_ones(begun, raced)
    for seed in range(3):
        draw = random.Random(seed)
        other = draw.sample(raced, len(raced))
        assert [c.id for c, _ in world.next_ones(begun, other)] == [c.id for c, _ in expected]
    # Further tries at rate and decay teach nothing, nor does a network that races twice.
    tried = [
        Raced(r.name, r.role, r.recipe, 1, (*r.seen, Seen(16, 0.01, 9.0, {"rate": 2.0})))
        for r in raced
    ]
    assert world.next_ones(begun, tried) == expected
    twice = [*raced, Raced("again", "random", raced[0].recipe, 1, raced[0].seen)]
    assert world.next_ones(begun, twice) == expected


def test_networks_without_scores_are_known_by_their_blocks() -> None:
    world = World(4)
    begun = world.ranked[:8]
    raced = world.race([*begun, *world.candidates[:5]])
    depths = dict.fromkeys(world.zoo, NODES)
    unknown = {c.recipe.key for c in world.candidates[:5]}
    scores = {key: one for key, one in world.scores.items() if key not in unknown}
    free = world.ranked[8:]
    found = guess(free, raced, scores, depths)
    assert len(found) == len(free)
    blind = guess(free, raced, {}, depths)
    true = [world.true[c.recipe.key] for c in free]
    for told in (found, blind):
        told_of = [one.validation_accuracy for one, _ in told]
        assert np.corrcoef(told_of, true)[0, 1] > 0.5
    assert guess([], raced, scores, depths) == []
    assert guess(free, [], scores, depths) == []


def test_a_single_one_is_taken_by_the_guide() -> None:
    world = World(5)
    begun = world.ranked[:8]
    found = world.next_ones(begun, world.race(begun), 1)
    assert len(found) == 1
    assert all(one is not None for _, one in found)
