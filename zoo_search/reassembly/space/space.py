"""The recipes that a partition, or several, and a budget allow (DeRy Eqs. 8-11)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from zoo_search.costs.budget import Budget
from zoo_search.costs.table import CostTable
from zoo_search.networks.recipe import Part, Recipe, Taps
from zoo_search.partitions.result import Partition
from zoo_search.reassembly.space import optimum
from zoo_search.reassembly.space.choices import Choices, Scope
from zoo_search.reassembly.space.counting import Counts
from zoo_search.reassembly.space.program import Program

_SMALL = 20_000  # recipes that are listed in full
_TRIES = 200  # draws a wanted sample before the integer program takes over


@dataclass(frozen=True)
class Count:
    """How many recipes are feasible: exactly, or at least so many."""

    number: int
    exact: bool

    def __str__(self) -> str:
        return f"{self.number:,}" if self.exact else f"at least {self.number:,}"


class Feasible(Scope):
    """The feasible recipes with a target head; those that are the same network are one."""

    cheapest = optimum.cheapest
    nearest = optimum.nearest
    nearest_to = optimum.nearest_to

    def count(self, limit: int | None = 100_000) -> Count:
        """Count the feasible recipes, or stop at ``limit`` and say that there are at least so many.

        Without limits on costs the number is exact and nothing is listed. Otherwise those counted
        are looked at one by one where there are few, and where there are many the integer program
        lists the recipes up to the limit.
        """
        total = self._counts.total
        if total and not self._counts.exact and total <= _SMALL:
            total = len(self._listing)
        elif total and not self._counts.exact:
            total = len(self.enumerate(None if limit is None else limit + 1))
        if limit is not None and total > limit:
            return Count(limit, False)
        return Count(total, True)

    @property
    def most(self) -> int:
        """A number of recipes that there are no more of, however many there are.

        They are counted in upper limits with costs rounded down; without limits it is exact.
        """
        return self._counts.total

    def enumerate(self, limit: int | None = None) -> list[Recipe]:
        """Return the feasible recipes, at most ``limit``, in a fixed order."""
        found: dict[str, Recipe] = {}
        for part in self.parts:
            for recipe in Program(part, self.budget).all(limit):
                found.setdefault(recipe.key, recipe)
        return sorted(found.values(), key=lambda recipe: recipe.blocks)[:limit]

    def sample(self, n: int, seed: int = 0) -> list[Recipe]:
        """Draw ``n`` different feasible recipes uniformly, or all if there are fewer.

        Those that are counted (:class:`.counting.Counts`) are drawn uniformly, and those that are
        not feasible thrown away, which is uniform over the feasible ones. Where there are few, they
        are listed instead. Only where the limits leave too many to list and too few to hit, the
        integer program solves random objectives: near to uniform within a partition, each of which
        is taken as often as the others.

        Raises:
            UserError: If no recipe is feasible.
        """
        rng = random.Random(seed)
        if self._counts.total > _SMALL:
            drawn = self._draw(n, rng)
            if len(drawn) == n:
                return drawn
        if len(self._listing) <= _SMALL:
            if not self._listing:
                raise optimum.infeasible(self)
            return rng.sample(self._listing, min(n, len(self._listing)))
        return self._draw_objectives(n, rng)

    @cached_property
    def _counts(self) -> Counts:
        return Counts(self.parts)

    @cached_property
    def _listing(self) -> list[Recipe]:
        """The feasible recipes; one more than ``_SMALL`` stands for too many."""
        if self._counts.total > _SMALL:
            return self.enumerate(_SMALL + 1)
        recipes = sorted(map(self.recipe_of, self._counts.all()), key=lambda r: r.blocks)
        return [recipe for recipe in recipes if self.within(recipe)]

    def _draw(self, n: int, rng: random.Random) -> list[Recipe]:
        return self._different(n, _TRIES * n, lambda: self.recipe_of(self._counts.draw(rng)))

    def _draw_objectives(self, n: int, rng: random.Random) -> list[Recipe]:
        programs = [(part, Program(part, self.budget)) for part in self.parts]
        able = [(part, program) for part, program in programs if program.solve(0)]

        def draw() -> Recipe:
            part, program = able[rng.randrange(len(able)) if len(able) > 1 else 0]
            blocks = [block for stage in part.stages for block in stage]
            noise: dict[Part, int] = {block: rng.randrange(1_000_000) for block in blocks}
            found = program.solve(program.weighted(noise))
            assert found is not None
            return found[0]

        return self._different(n, 4 * n, draw)

    def _different(self, n: int, tries: int, draw: Callable[[], Recipe]) -> list[Recipe]:
        """Draw; throw away what is not feasible, or was drawn before."""
        drawn: dict[str, Recipe] = {}
        for _ in range(tries):
            if len(drawn) == n:
                break
            recipe = draw()
            if recipe.key not in drawn and self.within(recipe):
                drawn[recipe.key] = recipe
        return list(drawn.values())


class Space(Choices, Feasible):
    """The feasible recipes of one partition; what samplers choose from, a block a stage."""


class SpaceUnion(Feasible):
    """The feasible recipes of several partitions of one zoo, each network once.

    Args:
        parts: The space of each partition, under one budget and of the same costs.
    """

    def __init__(self, parts: Sequence[Space]) -> None:
        first = parts[0]
        self.spaces = tuple(parts)
        self.parts, self.costs, self.budget = self.spaces, first.costs, first.budget
        self.left_out, self.taps = first.left_out, first.taps


def make_space(
    partitions: Partition | Sequence[Partition],
    costs: CostTable,
    budget: Budget,
    *,
    early: bool = False,
    taps: Taps = "last",
) -> Space | SpaceUnion:
    """Return the space of one partition, or of several; ``early``: recipes may end early.

    ``taps`` is what the heads of all recipes read.

    Raises:
        UserError: If the budget's licences leave out every model.
    """
    given = partitions if isinstance(partitions, Sequence) else [partitions]
    parts = [Space(partition, costs, budget, early=early, taps=taps) for partition in given]
    return parts[0] if len(parts) == 1 else SpaceUnion(parts)
