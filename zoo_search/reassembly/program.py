"""The integer program over the blocks of a partition (DeRy Eqs. 8-11), for OR-Tools' CP-SAT.

One binary variable a block. Each stage and each set gives exactly one block (Eqs. 10 and 11), the
cost lies in the budget (Eq. 9): blocks and the head add up, and each joint adds the cost of its
stitch, which depends on the two blocks at it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo_search.reassembly.cost import Budget, Cost
from zoo_search.reassembly.recipe import BlockRef

if TYPE_CHECKING:
    from zoo_search.reassembly.space import Space

__all__ = ["Program"]


class Program:
    """The CP-SAT model of Eqs. 9-11 for a space and a budget."""

    def __init__(self, space: Space, budget: Budget) -> None:
        from ortools.sat.python import cp_model

        self._cp = cp_model
        self._space = space
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
        self._joints = self._add_joints()
        for what in ("params", "macs"):
            low, high = getattr(budget, f"min_{what}"), getattr(budget, f"max_{what}")
            if low > 0:
                self.model.add(self.total(what) >= int(-(-low // 1)))
            if high is not None:
                self.model.add(self.total(what) <= int(high // 1))

    def total(self, what: str) -> Any:
        """Return the cost in parameters or MACs as a linear expression."""
        costs, terms = self._space.costs, []
        last = set(self._space.stages[-1])
        for block, take in self.take.items():
            value = getattr(costs.block(block), what)
            if block in last:
                value += getattr(costs.head(block, "target"), what)
            terms.append(value * take)
        terms += [getattr(cost, what) * both for cost, both in self._joints]
        return sum(terms)

    def weighted(self, weights: dict[BlockRef, int]) -> Any:
        """Return the sum of the weights of the blocks taken."""
        return sum(weights[block] * take for block, take in self.take.items())

    def excess(self, budget: Budget) -> Any:
        """Return by how much the limits are broken, in thousandths of the limits."""
        terms: list[Any] = []
        for what in ("params", "macs"):
            total = self.total(what)
            high, low = getattr(budget, f"max_{what}"), getattr(budget, f"min_{what}")
            for limit, sign in ((high, 1), (low, -1)):
                if limit:
                    unit = max(1, round(limit / 1000))
                    over = self.model.new_int_var(0, 2**31, f"{what} {sign}")
                    self.model.add(unit * over >= sign * (total - int(limit)))
                    terms.append(over)
        return sum(terms) if terms else 0

    def minimise(self, aim: Any) -> tuple[BlockRef, ...] | None:
        """Return the blocks of an optimal recipe, stage by stage, or None if there is none."""
        self.model.minimize(aim)
        solver = self._solver()
        status = solver.solve(self.model)
        if status not in (self._cp.OPTIMAL, self._cp.FEASIBLE):
            return None
        return self._chosen(solver.boolean_value)

    def all(self, limit: int | None) -> list[tuple[BlockRef, ...]]:
        """Return the blocks of every feasible recipe, at most ``limit``."""
        found: list[tuple[BlockRef, ...]] = []
        cp, chosen = self._cp, self._chosen

        class Collect(cp.CpSolverSolutionCallback):  # type: ignore[misc, name-defined]
            """Keeps every solution."""

            def on_solution_callback(self) -> None:
                """Keep this one; stop at the limit."""
                found.append(chosen(self.boolean_value))
                if limit is not None and len(found) >= limit:
                    self.stop_search()

        solver = self._solver()
        solver.parameters.enumerate_all_solutions = True
        solver.solve(self.model, Collect())
        return found

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

    def _add_joints(self) -> list[tuple[Cost, Any]]:
        """Return (cost, variable) of each joint; the variable is the product of its two blocks."""
        joints = []
        for befores, afters in itertools.pairwise(self._space.stages):
            for before in befores:
                for after in afters:
                    both = self.model.new_bool_var(f"{before} {after}")
                    a, b = self.take[before], self.take[after]
                    self.model.add_implication(both, a)
                    self.model.add_implication(both, b)
                    self.model.add_bool_or([a.negated(), b.negated(), both])
                    joints.append((self._space.costs.joint(before, after), both))
        return joints
