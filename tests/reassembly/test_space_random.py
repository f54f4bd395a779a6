"""Spaces of random partitions and budgets against every choice of a block a stage, one by one."""

import itertools
import random
from collections import Counter
from types import SimpleNamespace

import pytest
from scipy.stats import chisquare

from zoo_search.errors import UserError
from zoo_search.reassembly import BlockRef, Budget, Cost, CostTable, Recipe, Space
from zoo_search.reassembly.latency import LatencyTable, Timer

LICENCES = {"cnn": "Apache-2.0", "vit": "mit", "mlp": None, "swin": "apache-2.0"}
PARTS = ("params", "macs", "latency", "memory")


@pytest.fixture(scope="module")
def costs(zoo) -> CostTable:
    """Every cost of the zoo, latency measured once for the module, and licences."""
    models = {
        name: SimpleNamespace(graph=model.graph, license=LICENCES[name])
        for name, model in zoo.items()
    }
    graphs = {name: model.graph for name, model in zoo.items()}
    timer = Timer(warmup=1, repeats=1, device="cpu")
    table = CostTable(zoo, 5, PARTS[2:], LatencyTable(graphs, 5, timer))
    table.licenses = {name: model.license for name, model in models.items()}
    return table


def random_partition(zoo, rng: random.Random) -> SimpleNamespace:
    """2 to 4 stages, cuts anywhere, sets in any order and sometimes twice in one model."""
    k = rng.randint(2, 4)
    blocks = []
    for name, model in zoo.items():
        inner = sorted(rng.sample(range(1, len(model.graph)), k - 1))
        cuts = [0, *inner, len(model.graph)]
        sets = rng.sample(range(k), k) if rng.random() < 0.7 else [rng.randrange(k)] * k
        blocks += [
            SimpleNamespace(model=name, start=a, stop=b, stage=stage, set=sets[stage])
            for stage, (a, b) in enumerate(itertools.pairwise(cuts))
        ]
    return SimpleNamespace(k=k, blocks=blocks)


def every_recipe(partition, costs: CostTable) -> dict[Recipe, Cost]:
    """Every choice of one block a stage and a set, with its cost."""
    stages = [[b for b in partition.blocks if b.stage == s] for s in range(partition.k)]
    found = {}
    for blocks in itertools.product(*stages):
        if len({b.set for b in blocks}) == partition.k:
            recipe = Recipe(tuple(BlockRef(b.model, b.start, b.stop) for b in blocks))
            found[recipe] = costs.cost(recipe)
    return found


def random_budget(everything: dict[Recipe, Cost], rng: random.Random) -> Budget:
    """Limits between the costs that there are, each with even odds; now and then a licence list."""

    def quantile(what: str, low: float, high: float) -> float:
        values = sorted(getattr(cost, what) for cost in everything.values())
        return values[int(rng.uniform(low, high) * (len(values) - 1))]

    def some(what: str) -> float | None:
        return quantile(what, 0.3, 1.0) if rng.random() < 0.5 else None

    return Budget(
        max_params=some("params"),
        max_macs=some("macs"),
        min_params=quantile("params", 0.0, 0.5) if rng.random() < 0.3 else 0,
        min_macs=quantile("macs", 0.0, 0.5) if rng.random() < 0.3 else 0,
        max_latency_ms=some("latency"),
        max_memory=some("memory"),
        licenses=("APACHE-2.0", "MIT") if rng.random() < 0.3 else None,
    )


def brute_force(everything: dict[Recipe, Cost], budget: Budget) -> dict[Recipe, Cost]:
    def fits(recipe: Recipe, cost: Cost) -> bool:
        if budget.licenses is not None and "mlp" in recipe.models:
            return False
        pairs = (
            (cost.params, budget.max_params), (cost.macs, budget.max_macs),
            (cost.latency, budget.max_latency_ms), (cost.memory, budget.max_memory),
        )  # fmt: skip
        return all(high is None or value <= high for value, high in pairs) and (
            cost.params >= budget.min_params and cost.macs >= budget.min_macs
        )

    return {recipe: cost for recipe, cost in everything.items() if fits(recipe, cost)}


@pytest.mark.parametrize("seed", range(24))
def test_a_space_is_what_brute_force_finds(zoo, costs, seed):
    rng = random.Random(seed)
    partition = random_partition(zoo, rng)
    everything = every_recipe(partition, costs)
    if not everything:
        with pytest.raises(UserError, match="allows no recipe at all"):
            Space(partition, costs, Budget()).sample(1)
        return
    assert Space(partition, costs, Budget()).tally().number == len(everything)
    budget = random_budget(everything, rng)
    feasible = brute_force(everything, budget)
    space = Space(partition, costs, budget)
    if not feasible:
        with pytest.raises(UserError, match=r"No recipe is within|allows no recipe"):
            space.cheapest()
        with pytest.raises(UserError):
            space.nearest_to(next(iter(everything)))
        assert space.enumerate() == []
        return
    assert space.enumerate() == sorted(feasible, key=lambda r: r.blocks)
    assert (space.tally().number, space.tally().exact) == (len(feasible), True)
    drawn = space.sample(10_000, seed)
    assert sorted(r.key for r in drawn) == sorted(r.key for r in feasible)
    for what in PARTS:
        least = min(getattr(cost, what) for cost in feasible.values())
        assert getattr(costs.cost(space.cheapest(what)), what) == least
    given = rng.choice(list(everything))
    found = space.nearest_to(given)

    def distance(recipe: Recipe) -> tuple[int, int]:
        changed = sum(a != b for a, b in zip(recipe.blocks, given.blocks, strict=True))
        return changed, costs.cost(recipe).macs

    assert distance(found) == min(map(distance, feasible))
    assert space._counts.total >= len(feasible)


def test_the_random_spaces_are_of_every_kind(zoo, costs):
    """The test above is worth nothing if its spaces are all empty, or never limited."""
    kinds = Counter()
    for seed in range(24):
        rng = random.Random(seed)
        everything = every_recipe(random_partition(zoo, rng), costs)
        if everything:
            budget = random_budget(everything, rng)
            share = len(brute_force(everything, budget)) / len(everything)
            kinds["none" if share == 0 else "all" if share == 1 else "some"] += 1
            kinds.update(limit.what for limit in budget.limits)
            kinds["licences"] += budget.licenses is not None
        else:
            kinds["no recipe"] += 1
    assert min(kinds[kind] for kind in ("some", *PARTS, "licences")) >= 3, kinds


def listed(partition, costs, budget, monkeypatch) -> tuple[Space, list[Recipe]]:
    """A space that is sampled by drawing, however small it is."""
    monkeypatch.setattr("zoo_search.reassembly.space._SMALL", 0)
    space = Space(partition, costs, budget)
    return space, space.enumerate()


@pytest.mark.parametrize("limited", [False, True])
def test_drawing_is_uniform_over_what_is_feasible(partition, costs, limited, monkeypatch):
    everything = every_recipe(partition, costs)
    macs = sorted(cost.macs for cost in everything.values())
    params = sorted(cost.params for cost in everything.values())
    budget = Budget()
    if limited:
        budget = Budget(max_macs=macs[len(macs) // 2], max_params=params[len(params) // 2])
    space, feasible = listed(partition, costs, budget, monkeypatch)
    assert len(feasible) > 10
    assert limited == (len(feasible) < len(everything))
    rng = random.Random(0)
    drawn = Counter(space._draw(1, rng)[0].key for _ in range(100 * len(feasible)))
    assert set(drawn) == {recipe.key for recipe in feasible}
    assert chisquare(list(drawn.values())).pvalue > 0.001
    # One block a stage at random, as if sets did not matter, would not be uniform over sets.
    several = Counter(r.key for seed in range(200) for r in space.sample(3, seed))
    assert chisquare([several[r.key] for r in feasible]).pvalue > 0.001


def test_counts_are_exact_without_limits_and_close_with_them(partition, costs):
    everything = every_recipe(partition, costs)
    free = Space(partition, costs, Budget())
    assert free._counts.total == len(everything)
    assert set(free._counts.all()) == {recipe.blocks for recipe in everything}
    assert str(free.tally()) == str(len(everything))
    macs = sorted(cost.macs for cost in everything.values())
    tight = Space(partition, costs, Budget(max_macs=macs[len(macs) // 4]))
    feasible = set(tight.enumerate())
    counted = {Recipe(blocks) for blocks in tight._counts.all()}
    assert feasible <= counted
    assert len(counted) <= 1.1 * len(feasible)
    assert tight._counts.total == len(counted)
    assert str(tight.tally(limit=3)) == "at least 3"
    assert tight.count(limit=3) == 3


def test_a_space_too_large_to_list_is_counted_and_drawn_from(costs, zoo):
    """Every block that starts at one of the first four cuts of its model; one set a stage."""
    blocks = [
        SimpleNamespace(model=name, start=start, stop=stop, stage=start, set=start)
        for name, model in zoo.items()
        for start in range(min(len(model.graph), 4))
        for stop in range(start + 1, len(model.graph) + 1)
    ]
    partition = SimpleNamespace(k=4, blocks=blocks)
    sizes = [sum(b.stage == stage for b in blocks) for stage in range(4)]
    free = Space(partition, costs, Budget())
    assert free.tally(limit=None).number == sizes[0] * sizes[1] * sizes[2] * sizes[3] > 10**5
    budget = Budget(max_params=2.5e6, max_macs=2e7, max_memory=8e5)
    space = Space(partition, costs, budget)
    drawn = space.sample(50, seed=0)
    assert len({r.key for r in drawn}) == 50
    assert all(budget.admits(costs.cost(r)) for r in drawn)
    assert drawn == Space(partition, costs, budget).sample(50, seed=0)


def test_licences_leave_models_out(partition, costs):
    space = Space(partition, costs, Budget(licenses=("apache-2.0",)))
    assert space.left_out == {"vit": "mit", "mlp": None}
    assert {b.model for b in space.sets} == {"cnn", "swin"}
    assert {r.models[0] for r in space.zoo} <= {"cnn", "swin"}
    with pytest.raises(
        UserError, match=r"leaves no model.*mlp \(licence not known\).*Did you mean"
    ):
        Space(partition, costs, Budget(licenses=("apache2.0",)))


def test_an_infeasible_budget_names_what_fails(partition, costs):
    everything = every_recipe(partition, costs)
    for what, limit, words in (
        ("latency", {"max_latency_ms": 1e-3}, "one with the lowest latency"),
        ("memory", {"max_memory": 1000}, "one with the least activation memory"),
    ):
        space = Space(partition, costs, Budget(**limit))
        best = min(everything, key=lambda r, what=what: getattr(costs.cost(r), what))
        with pytest.raises(UserError) as caught:
            space.sample(2)
        message = str(caught.value)
        least = getattr(costs.cost(best), what)
        named = message.split(f"the {words} is ")
        if len(named) == 1:  # it is also the cheapest, or the one with the fewest parameters
            assert str(best) in message
        else:
            said = next(r for r in everything if named[1].startswith(f"{r}: "))
            assert getattr(costs.cost(said), what) == least
        assert "The cheapest recipe is" in message
        assert "\n" not in message
    relaxed = Budget(max_latency_ms=1e9, max_params=1)
    with pytest.raises(UserError) as caught:
        Space(partition, costs, relaxed).sample(2)
    assert "lowest latency" not in str(caught.value)


@pytest.mark.parametrize("limit", [1e3, 1e30])
def test_limits_of_any_size_are_taken(partition, costs, limit):
    """The program's numbers have 64 bits; a limit in the run file has none."""
    highs = Budget(max_params=limit, max_macs=limit, max_latency_ms=limit, max_memory=limit)
    lows = Budget(min_params=limit, min_macs=limit)
    everything = set(every_recipe(partition, costs))
    for budget, ok in ((highs, limit > 1e9), (lows, limit < 1e9)):
        space = Space(partition, costs, budget)
        assert set(space.enumerate()) == (everything if ok else set())
        assert space.nearest() in everything
