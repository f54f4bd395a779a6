"""The integer program over the blocks of a partition (DeRy Eqs. 8-11), for OR-Tools' CP-SAT.

One binary variable a block. Each stage and each set gives exactly one block (Eqs. 10 and 11), the
cost lies in the budget (Eq. 9): blocks and the head add up, and each joint adds the cost of its
stitch, which depends on the two blocks at it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo_search.reassembly.budget import Budget
from zoo_search.reassembly.recipe import BlockRef, Recipe

if TYPE_CHECKING:
    from zoo_search.reassembly.space import Space

__all__ = ["Program"]


class Program:
    """The CP-SAT model of Eqs. 9-11 for a space and a budget.

    Parameters, MACs and latency (in nanoseconds) add up. Peak memory is the largest of the peaks:
    a block or joint whose own least peak is over the limit is forbidden. A peak may depend on how
    a tensor comes, which the solver does not see; what it finds is checked, and forbidden where it
    is over the limit after all.
    """

    def __init__(self, space: Space, budget: Budget) -> None:
        from ortools.sat.python import cp_model

        self._cp = cp_model
        self._space, self._budget = space, budget
        self._forbidden: set[tuple[BlockRef, ...]] = set()
        self.model = cp_model.CpModel()
        self.take = {
            block: self.model.new_bool_var(f"{stage} {block}")
            for stage, blocks in enumerate(space.stages)
            for block in blocks
        }
        members: dict[int, list[Any]] = defaultdict(list)
        for block, number in space.sets.items():
            members[number].append(self.take[block])
        for blocks in space.stages:
            self.model.add_exactly_one(self.take[block] for block in blocks)
        for number in range(space.k):
            self.model.add_exactly_one(members[number])
        self._both = self._add_joints()
        for limit in budget.limits:
            if limit.what == "memory":
                assert limit.high is not None
                self._limit_memory(limit.high)
                continue
            most = self._most(limit.what)
            if limit.low > 0:
                self.model.add(self.total(limit.what) >= min(limit.low, most + 1))
            if limit.high is not None and limit.high < most:
                self.model.add(self.total(limit.what) <= limit.high)

    def total(self, what: str) -> Any:
        """Return the cost in parameters, MACs, nanoseconds or bytes as a linear expression."""
        if what == "memory":
            return self._peak
        costs = self._space.costs
        last = set(self._space.stages[-1])
        terms = [
            costs.units_of_block(block, what, last=block in last) * take
            for block, take in self.take.items()
        ]
        terms += [costs.units_of_joint(*pair, what) * both for pair, both in self._both.items()]
        return sum(terms)

    def weighted(
        self,
        blocks: Mapping[BlockRef, int],
        pairs: Mapping[tuple[BlockRef, BlockRef], int] | None = None,
    ) -> Any:
        """Return the sum of the weights of the blocks, and of the joints, that are taken."""
        terms = [weight * self.take[block] for block, weight in blocks.items()]
        terms += [weight * self._both[pair] for pair, weight in (pairs or {}).items()]
        return sum(terms)

    def excess(self, budget: Budget) -> Any:
        """Return by how much the limits are broken, in thousandths of the limits."""
        terms: list[Any] = []
        for limit in budget.limits:
            total, most = self.total(limit.what), self._most(limit.what)
            if limit.high and limit.high < most:
                terms.append(self._over(total - limit.high, most - limit.high, limit.high))
            if limit.low:
                low = min(limit.low, 2**50)  # beyond anything, and well within 64 bits
                terms.append(self._over(low - total, low, low))
        return sum(terms) if terms else 0

    def _over(self, amount: Any, most: int, limit: int) -> Any:
        """Return a variable no less than an amount, if it is above 0, in thousandths of a limit."""
        unit = max(1, round(limit / 1000))
        over = self.model.new_int_var(0, most // unit + 1, "")
        self.model.add(unit * over >= amount)
        return over

    def _most(self, what: str) -> int:
        """Return a cost that no recipe is above."""
        if what == "memory":
            bounds = self._space.bounds
            return max((*bounds.blocks.values(), *bounds.joints.values()), default=0)
        costs, total = self._space.costs, 0
        for stage, blocks in enumerate(self._space.stages):
            last = stage == self._space.k - 1
            values = [costs.units_of_block(block, what, last=last) for block in blocks]
            total += max(values, default=0)
        for befores, afters in itertools.pairwise(self._space.stages):
            pairs = itertools.product(befores, afters)
            total += max((costs.units_of_joint(*pair, what) for pair in pairs), default=0)
        return total

    def minimise(self, aim: Any, effort: float | None = None) -> tuple[BlockRef, ...] | None:
        """Return the blocks of an optimal recipe, stage by stage, or None if there is none.

        Args:
            aim: A linear expression.
            effort: The solver's deterministic seconds, after which the best one so far counts.
        """
        found = self.solve(aim, effort)
        return None if found is None else found[0]

    def solve(
        self, aim: Any, effort: float | None = None
    ) -> tuple[tuple[BlockRef, ...], int] | None:
        """Return what :meth:`minimise` returns, with the value of the aim."""
        self.model.minimize(aim)
        solver = self._solver()
        if effort is not None:
            solver.parameters.max_deterministic_time = effort
        while solver.solve(self.model) in (self._cp.OPTIMAL, self._cp.FEASIBLE):
            blocks = self._chosen(solver.boolean_value)
            if self._admits(blocks):
                return blocks, round(solver.objective_value)
            self.forbid(blocks)
        return None

    def forbid(self, blocks: Sequence[BlockRef]) -> None:
        """Take one recipe of the space's blocks out."""
        if tuple(blocks) not in self._forbidden:
            self._forbidden.add(tuple(blocks))
            self.model.add_bool_or([self.take[block].negated() for block in blocks])

    def forbid_all(self, recipes: Mapping[str, Recipe]) -> None:
        """Take recipes out, those of one block a stage of this space."""
        for recipe in recipes.values():
            blocks = recipe.blocks
            if len(blocks) == self._space.k and all(block in self.take for block in blocks):
                self.forbid(blocks)

    def all(self, limit: int | None) -> list[tuple[BlockRef, ...]]:
        """Return the blocks of every feasible recipe, at most ``limit``."""
        found: list[tuple[BlockRef, ...]] = []
        cp, chosen, admits = self._cp, self._chosen, self._admits

        class Collect(cp.CpSolverSolutionCallback):  # type: ignore[misc, name-defined]
            """Keeps every feasible solution."""

            def on_solution_callback(self) -> None:
                """Keep this one; stop at the limit."""
                blocks = chosen(self.boolean_value)
                if admits(blocks):
                    found.append(blocks)
                if limit is not None and len(found) >= limit:
                    self.stop_search()

        solver = self._solver()
        solver.parameters.enumerate_all_solutions = True
        solver.solve(self.model, Collect())
        return found

    @cached_property
    def _peak(self) -> Any:
        """A variable that is no less than the least peak of any block and joint taken."""
        bounds = self._space.bounds
        peak = self.model.new_int_var(0, self._most("memory"), "memory")
        for block, least in bounds.blocks.items():
            self.model.add(peak >= least * self.take[block])
        for pair, least in bounds.joints.items():
            self.model.add(peak >= least * self._both[pair])
        return peak

    def _admits(self, blocks: Sequence[BlockRef]) -> bool:
        return self._budget.admits(self._space.cost(self._space.recipe(blocks)))

    def _limit_memory(self, most: int) -> None:
        bounds = self._space.bounds
        for block, least in bounds.blocks.items():
            if least > most:
                self.model.add(self.take[block] == 0)
        for pair, least in bounds.joints.items():
            if least > most:
                self.model.add(self._both[pair] == 0)

    def _solver(self) -> Any:
        solver = self._cp.CpSolver()
        solver.parameters.num_workers = 1  # the same answer every time
        solver.parameters.random_seed = 0
        return solver

    def _chosen(self, value: Callable[[Any], bool]) -> tuple[BlockRef, ...]:
        return tuple(
            next(block for block in blocks if value(self.take[block]))
            for blocks in self._space.stages
        )

    def _add_joints(self) -> dict[tuple[BlockRef, BlockRef], Any]:
        """Return the variable of each joint: the product of its two blocks."""
        joints = {}
        for befores, afters in itertools.pairwise(self._space.stages):
            for before, after in itertools.product(befores, afters):
                both = self.model.new_bool_var(f"{before} {after}")
                a, b = self.take[before], self.take[after]
                self.model.add_implication(both, a)
                self.model.add_implication(both, b)
                self.model.add_bool_or([a.negated(), b.negated(), both])
                joints[before, after] = both
        return joints
