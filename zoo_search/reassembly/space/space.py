"""The recipes that a partition and a budget allow (DeRy Eqs. 8-11)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from zoo_search.networks.recipe import Part, Recipe
from zoo_search.reassembly.space import optimum
from zoo_search.reassembly.space.choices import Choices
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


class Space(Choices):
    """The feasible recipes with a target head."""

    cheapest = optimum.cheapest
    nearest = optimum.nearest
    nearest_to = optimum.nearest_to

    @cached_property
    def zoo(self) -> list[Recipe]:
        """The zoo models within the budget, also where two of their blocks share a set."""
        models = dict.fromkeys(block.model for stage in self.stages for block in stage)
        recipes = [
            self.recipe([block for stage in self.stages for block in stage if block.model == name])
            for name in models
        ]
        whole = [r for r in recipes if len(r.blocks) == self.k and len(r.runs) == 1]
        return [recipe for recipe in whole if self.within(recipe)]

    def count(self, limit: int | None = 100_000) -> Count:
        """Count the feasible recipes, or stop at ``limit`` and say that there are at least so many.

        Without limits on costs the number is exact and nothing is listed. Otherwise the integer
        program lists the recipes up to the limit.
        """
        total = self._counts.total
        if total and not self._counts.exact:
            total = len(self.enumerate(None if limit is None else limit + 1))
        if limit is not None and total > limit:
            return Count(limit, False)
        return Count(total, True)

    def enumerate(self, limit: int | None = None) -> list[Recipe]:
        """Return the feasible recipes, at most ``limit``, in a fixed order."""
        return sorted(Program(self, self.budget).all(limit), key=lambda recipe: recipe.blocks)

    def sample(self, n: int, seed: int = 0) -> list[Recipe]:
        """Draw ``n`` different feasible recipes uniformly, or all if there are fewer.

        Those that are counted (:class:`.counting.Counts`) are drawn uniformly, and those that are
        not feasible thrown away, which is uniform over the feasible ones. Where there are few, they
        are listed instead. Only where the limits leave too many to list and too few to hit, the
        integer program solves random objectives: near to uniform.

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
        return Counts(self)

    @cached_property
    def _listing(self) -> list[Recipe]:
        """The feasible recipes; one more than ``_SMALL`` stands for too many."""
        if self._counts.total > _SMALL:
            return self.enumerate(_SMALL + 1)
        recipes = [self.recipe(blocks) for blocks in sorted(self._counts.all())]
        return [recipe for recipe in recipes if self.within(recipe)]

    def _draw(self, n: int, rng: random.Random) -> list[Recipe]:
        return self._different(n, _TRIES * n, lambda: self.recipe(self._counts.draw(rng)))

    def _draw_objectives(self, n: int, rng: random.Random) -> list[Recipe]:
        program = Program(self, self.budget)

        def draw() -> Recipe:
            noise: dict[Part, int] = {block: rng.randrange(1_000_000) for block in self.sets}
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
