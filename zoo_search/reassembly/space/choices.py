"""What there is to choose from: the blocks of a partition, and what a choice of them may cost."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property

from zoo_search.core.errors import UserError, nearest
from zoo_search.costs.budget import Budget, Cost, What
from zoo_search.costs.table import CostTable
from zoo_search.networks.recipe import BlockRef, Part, Recipe, Taps
from zoo_search.partitions.result import Partition


class Scope:
    """The blocks of one partition or of several, and what a recipe of them may cost.

    Attributes:
        parts: The choices of each partition.
        costs: Costs of blocks, joints and heads, with all that the budget asks to measure.
        budget: Limits on a recipe.
        taps: What the heads of all recipes read.
        left_out: Models that the budget's licences leave out, with their licence.
    """

    parts: Sequence[Choices]
    costs: CostTable
    budget: Budget
    taps: Taps
    left_out: Mapping[str, str | None]

    @cached_property
    def zoo(self) -> list[Recipe]:
        """The models of the zoo within the budget, also where two of their blocks share a set."""
        return _once(recipe for part in self.parts for recipe in part.zoo)

    @cached_property
    def prefixes(self) -> list[Recipe]:
        """The first blocks of each model, likewise, where recipes may end early."""
        return _once(recipe for part in self.parts for recipe in part.prefixes)

    def cost(self, recipe: Recipe) -> Cost:
        """Return the cost of a recipe."""
        return self.costs.cost(recipe)

    def within(self, recipe: Recipe) -> bool:
        """Return whether a recipe keeps the budget."""
        return self.budget.admits(self.cost(recipe))

    def admits(self, recipe: Recipe) -> bool:
        """Return whether a recipe is feasible: of blocks as a partition has them, in budget."""
        return any(part.ways_of(recipe) for part in self.parts) and self.within(recipe)

    def recipe_of(self, runs: Sequence[BlockRef]) -> Recipe:
        """Return the recipe that is the network of these runs, of blocks as a partition has them.

        Of several such recipes the first one within the budget: measured latencies of a network
        add up to another sum for each way to cut it. If none is, the first. Where the head reads
        every block, runs are blocks, and there is one way.
        """
        network = Recipe(tuple(runs), "target", self.taps)
        found = [part.recipe(blocks) for part in self.parts for blocks in part.ways_of(network)]
        return found[0] if len(found) == 1 else next(filter(self.within, found), found[0])


class Choices(Scope):
    """The blocks of one partition at each stage, their sets, and the limits (DeRy Eqs. 8-11).

    Args:
        partition: Where the models are cut, and which blocks are interchangeable.
        costs: Costs of blocks, joints and heads.
        budget: Limits on a recipe.
        early: Recipes may end after any stage, not only after the last; the head then sits on what
            that stage gives. :meth:`BlockRef.end` is one more choice at each stage but the first,
            and nothing follows an end but ends.
        taps: What the target's head of every recipe reads, those of zoo models as well. With
            ``"blocks"`` a network is a sequence of blocks: cut otherwise, it is another one.

    Raises:
        UserError: If the budget's licences leave out every model.
    """

    def __init__(
        self,
        partition: Partition,
        costs: CostTable,
        budget: Budget,
        *,
        early: bool = False,
        taps: Taps = "last",
    ) -> None:
        self.k, self.budget, self.early, self.taps = partition.k, budget, early, taps
        self.costs = costs.measuring(budget.measures).tapping(taps)
        self.parts = (self,)
        # Blocks whose licence the budget allows, and the set of each of them.
        self.stages: list[list[BlockRef]] = [[] for _ in range(self.k)]
        self.sets: dict[BlockRef, int] = {}
        # One cost of blocks and joints in whole units; of memory, their least peaks.
        self.units = cache(self._units)
        models = dict.fromkeys(block.model for block in partition.blocks)
        licenses = {name: costs.licenses.get(name) for name in models}
        self.left_out = {n: own for n, own in licenses.items() if not budget.licensed(own)}
        if models and len(self.left_out) == len(models):
            raise _no_license(self.left_out, budget.licenses or ())
        for block in partition.blocks:
            if block.model not in self.left_out:
                ref = BlockRef(block.model, block.start, block.stop)
                self.stages[block.stage].append(ref)
                self.sets[ref] = block.set
        self._own = [list(stage) for stage in self.stages]
        self._moves = bool(partition.shifts)
        for block in partition.shifts:
            ref = BlockRef(block.model, block.start, block.stop)
            if block.model not in self.left_out and ref not in self.sets:
                self.stages[block.stage].append(ref)
                self.sets[ref] = block.set
        if early:
            for stage in range(1, self.k):
                self.stages[stage].append(BlockRef.end(stage))

    def recipe(self, blocks: Sequence[BlockRef]) -> Recipe:
        """Return the recipe of one block a stage, or an end."""
        return Recipe(tuple(block for block in blocks if not block.is_end), "target", self.taps)

    def filled(self, blocks: Sequence[BlockRef]) -> tuple[BlockRef, ...]:
        """Return the blocks of a recipe with an end for each stage behind them."""
        return (*blocks, *map(BlockRef.end, range(len(blocks), self.k)))

    def ways_of(self, recipe: Recipe) -> list[tuple[BlockRef, ...]]:
        """Return every choice of one block (or end) a stage and a set that is this network.

        There is none, or one, where each model is cut in one way alone.
        """
        ways = list(self._fill(recipe.runs, 0, 0, ()))
        if self.taps == "blocks" or recipe.tapped:
            ways = [blocks for blocks in ways if self.recipe(blocks).key == recipe.key]
        return ways

    def _fill(
        self, runs: Sequence[BlockRef], place: int, used: int, blocks: tuple[BlockRef, ...]
    ) -> Iterator[tuple[BlockRef, ...]]:
        """Yield the ways to go on with runs from ``place``, a node of the first of them."""
        if not runs:
            if len(blocks) == self.k or self.early:
                yield self.filled(blocks)
            return
        first, rest = runs[0], runs[1:]
        if len(blocks) == self.k:
            return
        start = place or first.start
        for block in self.starting[len(blocks)].get((first.model, start), ()):
            bit = 1 << self.sets[block]
            if block.stop > first.stop or used & bit:
                continue
            if blocks and not self.joins(blocks[-1], block):
                continue
            done = block.stop == first.stop
            left = (rest, 0) if done else (runs, block.stop)
            yield from self._fill(*left, used | bit, (*blocks, block))

    @cached_property
    def starting(self) -> list[dict[tuple[str, int], list[BlockRef]]]:
        """The blocks of each stage by model and first cut."""
        found: list[dict[tuple[str, int], list[BlockRef]]] = []
        for stage in self.stages:
            found.append(defaultdict(list))
            for block in stage:
                if not block.is_end:
                    found[-1][block.model, block.start].append(block)
        return found

    @cached_property
    def zoo(self) -> list[Recipe]:
        """The models of the zoo within the budget, also where two of their blocks share a set."""
        found = (self.recipe(blocks) for blocks in self._models if len(blocks) == self.k)
        return [recipe for recipe in found if self.within(recipe)]

    @cached_property
    def prefixes(self) -> list[Recipe]:
        """The first blocks of each model, likewise, where recipes may end early."""
        if not self.early:
            return []
        wholes = {blocks[-1] for blocks in self._models if len(blocks) == self.k}
        ends = {(block.model, block.stop) for block in wholes}
        starts: list[tuple[BlockRef, ...]] = [(block,) for block in self.stages[0]]
        found = [self.recipe(blocks[:n]) for blocks in self._models for n in range(1, self.k)]
        while starts:  # with ends that have moved, too
            blocks = starts.pop(0)
            found.append(self.recipe(blocks))
            if len(blocks) < self.k:
                here = (blocks[-1].model, blocks[-1].stop)
                starts += [(*blocks, b) for b in self.starting[len(blocks)].get(here, ())]
        shorter = [r for r in found if (r.runs[-1].model, r.runs[-1].stop) not in ends]
        return [recipe for recipe in _once(shorter) if self.within(recipe)]

    @cached_property
    def _models(self) -> list[list[BlockRef]]:
        """The blocks of each model that is one chain of blocks, one a stage."""
        names = dict.fromkeys(block.model for stage in self._own for block in stage)
        found = [[b for stage in self._own for b in stage if b.model == name] for name in names]
        return [blocks for blocks in found if len(Recipe(tuple(blocks)).runs) == 1]

    def joins(self, before: BlockRef, after: BlockRef) -> bool:
        """Return whether two choices may stand at a joint.

        Nothing but ends follows an end. Where ends of blocks may move, two blocks of one model that
        follow each other are neighbours in it: it skips no node and repeats none.
        """
        if before.is_end or after.is_end:
            return after.is_end
        same = self._moves and before.model == after.model
        return not same or before.precedes(after)

    @cached_property
    def joints(self) -> list[list[tuple[BlockRef, BlockRef]]]:
        """The pairs of blocks that may stand at each joint."""
        return [
            [pair for pair in itertools.product(*two) if self.joins(*pair)]
            for two in itertools.pairwise(self.stages)
        ]

    @property
    def apart(self) -> Iterator[tuple[BlockRef, BlockRef]]:
        """The other pairs of stages that follow each other."""
        for two in itertools.pairwise(self.stages):
            yield from (pair for pair in itertools.product(*two) if not self.joins(*pair))

    def _units(self, what: What) -> dict[Part, int]:
        if what == "memory":
            known = self.costs.memory.bounds(self.stages)
            allowed = {*itertools.chain(*self.stages), *itertools.chain(*self.joints)}
            return {part: least for part, least in known.items() if part in allowed}
        units: dict[Part, int] = {}
        for stage, blocks in enumerate(self.stages):
            for block in blocks:
                last = stage == self.k - 1
                units[block] = self.costs.units_of_block(block, what, last=last)
        for pair in itertools.chain(*self.joints):
            units[pair] = self.costs.units_of_joint(*pair, what)
        return units


def _once(recipes: Iterable[Recipe]) -> list[Recipe]:
    """Return the first recipe of each network."""
    found: dict[str, Recipe] = {}
    for recipe in recipes:
        found.setdefault(recipe.key, recipe)
    return list(found.values())


def _no_license(left_out: Mapping[str, str | None], allowed: Sequence[str]) -> UserError:
    """Return the error for licences that leave out every model."""
    known = sorted({name for name in left_out.values() if name is not None})
    hints = "".join(dict.fromkeys(nearest(name.casefold(), known) for name in allowed))
    return UserError(
        f"'budget.licenses' allows {', '.join(allowed) or 'nothing'}, which leaves no model of the "
        f"zoo: {left_out_in_words(left_out)}.{hints} Allow more licences, or state that of a model "
        "under 'license:' in its zoo entry."
    )


def left_out_in_words(left_out: Mapping[str, str | None]) -> str:
    """Return models and their licences as ``a (gpl-3.0), b (licence not known)``."""
    return ", ".join(f"{m} ({own or 'licence not known'})" for m, own in left_out.items())
