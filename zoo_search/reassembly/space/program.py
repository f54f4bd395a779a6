"""The integer program over the blocks of a partition (DeRy Eqs. 8-11), for OR-Tools' CP-SAT."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from zoo_search.costs.budget import Budget, What
from zoo_search.networks.recipe import Part, Recipe
from zoo_search.reassembly.space.choices import Choices

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import CpSolver, IntVar, LinearExpr

Linear: TypeAlias = "LinearExpr | int"

_EFFORT = 1.0  # limit on one proposal in the solver's deterministic seconds, equal on any machine


class Program:
    """The CP-SAT model for some choices and a budget: one binary variable a block.

    Each stage and each set gives exactly one block (Eqs. 10 and 11), the cost lies in the budget
    (Eq. 9). Where recipes may end early, an end is one more choice at a stage, behind it come only
    ends, and a set gives one block at most. Parameters, MACs and latency (in nanoseconds) add up
    over blocks, head and stitches, which depend on the two blocks at a joint. Peak memory is the
    largest of the peaks: a block or joint whose own least peak is over the limit is forbidden. A
    peak may depend on how a tensor comes, which the solver does not see; what it finds is checked,
    and forbidden where it is over the limit after all.
    """

    def __init__(self, choices: Choices, budget: Budget) -> None:
        from ortools.sat.python import cp_model

        self._cp = cp_model
        self._choices, self._budget = choices, budget
        self._forbidden: set[str] = set()
        self.model = cp_model.CpModel()
        self.take: dict[Part, IntVar] = {
            block: self.model.new_bool_var(f"{stage} {block}")
            for stage, blocks in enumerate(choices.stages)
            for block in blocks
        }
        members: dict[int, list[IntVar]] = defaultdict(list)
        for block, number in choices.sets.items():
            members[number].append(self.take[block])
        for blocks in choices.stages:
            self.model.add_exactly_one(self.take[block] for block in blocks)
        for number in range(choices.k):
            if choices.early:
                self.model.add_at_most_one(members[number])
            else:
                self.model.add_exactly_one(members[number])
        for before, after in choices.apart:
            self.model.add_bool_or([self.take[before].negated(), self.take[after].negated()])
        # The variable of a joint is the product of those of its two blocks.
        for before, after in itertools.chain(*self._choices.joints):
            both = self.model.new_bool_var(f"{before} {after}")
            # both = a and b, in clauses: both -> a, both -> b, and (a and b) -> both.
            a, b = self.take[before], self.take[after]
            self.model.add_implication(both, a)
            self.model.add_implication(both, b)
            self.model.add_bool_or([a.negated(), b.negated(), both])
            self.take[before, after] = both
        # A limit that nothing can break is left out: it would only cost the solver time. A least
        # cost above all there is still has to rule everything out, and is cut to fit 64 bits.
        for limit in budget.limits:
            if limit.what == "memory":
                assert limit.high is not None
                for part, least in choices.units("memory").items():
                    if least > limit.high:
                        self.model.add(self.take[part] == 0)
                continue
            most = self._most(limit.what)
            if limit.low > 0:
                self.model.add(self.total(limit.what) >= min(limit.low, most + 1))
            if limit.high is not None and limit.high < most:
                self.model.add(self.total(limit.what) <= limit.high)

    def total(self, what: What) -> Linear:
        """Return the cost in parameters, MACs, nanoseconds or bytes as a linear expression."""
        return self._peak if what == "memory" else self.weighted(self._choices.units(what))

    def weighted(self, weights: Mapping[Part, int]) -> Linear:
        """Return the sum of the weights of the blocks, and of the joints, that are taken.

        Weights of joints that cannot be are passed over.
        """
        return sum(self.take[part] * w for part, w in weights.items() if part in self.take)

    def excess(self, budget: Budget) -> Linear:
        """Return by how much the limits are broken, in thousandths of the limits."""
        terms: list[IntVar] = []
        for limit in budget.limits:
            # Each limit gets a variable of its own: linear, and the solver pushes it down to the
            # excess, or to 0 where the limit is kept. The coarse unit keeps sums within 64 bits.
            total, most = self.total(limit.what), self._most(limit.what)
            if limit.high and limit.high < most:
                terms.append(self._over(total - limit.high, most - limit.high, limit.high))
            if limit.low:
                low = min(limit.low, 2**50)  # beyond anything, and well within 64 bits
                terms.append(self._over(low - total, low, low))
        return sum(terms) if terms else 0

    def _over(self, amount: Linear, most: int, limit: int) -> IntVar:
        """Return a variable no less than an amount, if it is above 0, in thousandths of a limit."""
        unit = max(1, round(limit / 1000))
        over = self.model.new_int_var(0, most // unit + 1, "")
        self.model.add(unit * over >= amount)
        return over

    def _most(self, what: What) -> int:
        """Return a cost that no recipe is above."""
        units = self._choices.units(what)
        if what == "memory":
            return max(units.values(), default=0)
        places: list[Sequence[Part]] = [*self._choices.stages, *self._choices.joints]
        return sum(max((units[part] for part in parts), default=0) for parts in places)

    def lightest(self, weights: Mapping[Part, int], taken: Mapping[str, Recipe]) -> Recipe | None:
        """Return the recipe of least weight that is not taken, or the best found in some time."""
        for recipe in taken.values():
            self.forbid(recipe)
        found = self.solve(self.weighted(weights), _EFFORT)
        return None if found is None else found[0]

    def solve(self, aim: Linear, effort: float | None = None) -> tuple[Recipe, int] | None:
        """Return a recipe of the least aim, and the value of that; None if there is none.

        After ``effort``, in the solver's deterministic seconds, the best one so far counts.
        """
        self.model.minimize(aim)
        solver = self._solver()
        if effort is not None:
            solver.parameters.max_deterministic_time = effort
        # The program knows memory by lower bounds alone. What breaks the budget after all is taken
        # out, and the rest solved again: so the first that is admitted is the best that is.
        while solver.solve(self.model) in (self._cp.OPTIMAL, self._cp.FEASIBLE):
            recipe = self._chosen(solver.boolean_value)
            if self._admits(recipe):
                return recipe, round(solver.objective_value)
            self.forbid(recipe)
        return None

    def forbid(self, recipe: Recipe) -> None:
        """Take one network out, where it is one of the space's."""
        if recipe.key not in self._forbidden:
            self._forbidden.add(recipe.key)
            # A no-good cut: at least one of the blocks has to go. It leaves in every other recipe.
            for blocks in self._choices.ways_of(recipe):
                self.model.add_bool_or([self.take[block].negated() for block in blocks])

    def all(self, limit: int | None) -> list[Recipe]:
        """Return every feasible recipe, at most ``limit``, each once."""
        found: dict[str, Recipe] = {}
        cp, chosen, admits = self._cp, self._chosen, self._admits

        class Collect(cp.CpSolverSolutionCallback):  # type: ignore[misc, name-defined]
            """Keeps every feasible solution."""

            def on_solution_callback(self) -> None:
                """Keep this one; stop at the limit."""
                recipe = chosen(self.boolean_value)
                if admits(recipe):
                    found.setdefault(recipe.key, recipe)
                if limit is not None and len(found) >= limit:
                    self.stop_search()

        solver = self._solver()
        solver.parameters.enumerate_all_solutions = True
        solver.solve(self.model, Collect())
        return list(found.values())

    @cached_property
    def _peak(self) -> IntVar:
        """A variable that is no less than the least peak of any block and joint taken."""
        # No more than "at least each least peak that is taken": minimised, it is their maximum.
        peak = self.model.new_int_var(0, self._most("memory"), "memory")
        for part, least in self._choices.units("memory").items():
            self.model.add(peak >= least * self.take[part])
        return peak

    def _admits(self, recipe: Recipe) -> bool:
        return self._budget.admits(self._choices.cost(recipe))

    def _solver(self) -> CpSolver:
        solver = self._cp.CpSolver()
        solver.parameters.num_workers = 1  # the same answer every time
        solver.parameters.random_seed = 0
        return solver

    def _chosen(self, value: Callable[[IntVar], bool]) -> Recipe:
        stages = self._choices.stages
        chosen = (next(b for b in blocks if value(self.take[b])) for blocks in stages)
        return self._choices.recipe(list(chosen))
