"""Which networks are fine-tuned beside the winners."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from small_runs import Setting

from zoo_search.config import JobConfig
from zoo_search.core.store import RunStore
from zoo_search.finetune import selection
from zoo_search.finetune.entries import Raced, Seen
from zoo_search.finetune.race.apart import apart, share_apart
from zoo_search.networks import BlockRef, Recipe
from zoo_search.reassembly import Candidate
from zoo_search.reassembly.candidates import to_table
from zoo_search.zoo import Zoo


def winning(setting: Setting, winners: int) -> JobConfig:
    finetune = setting.job.finetune.model_copy(update={"winners": winners})
    return setting.job.model_copy(update={"finetune": finetune})


def halves(zoo: Zoo, sets: dict[str, tuple[int, int]]) -> Any:
    """Each model in two stages."""
    blocks = []
    for name, numbers in sets.items():
        cuts = (0, 3, len(zoo[name].graph))
        for stage, number in enumerate(numbers):
            block = {"model": name, "start": cuts[stage], "stop": cuts[stage + 1]}
            blocks.append(SimpleNamespace(**block, stage=stage, set=number))
    return SimpleNamespace(k=2, blocks=blocks, shifts=())


def test_the_random_recipe_joins_models_and_is_no_winner(setting: Setting, tmp_path: Path) -> None:
    """Two of four recipes are whole models, which the random recipe shall not be."""
    zoo, dataset = setting.zoo, setting.dataset
    config = winning(setting, 1)
    store = RunStore(tmp_path / "run")
    parts, found = halves(zoo, {"a": (0, 1), "b": (0, 1)}), {}
    for seed in range(8):
        job = config.model_copy(update={"seed": seed})
        (entry,) = selection._random(job, store, zoo, dataset, parts, [])
        assert entry.role == "random"
        assert len(entry.recipe.models) == 2
        found[entry.recipe.key] = entry.recipe
    assert len(found) == 2
    for key, recipe in found.items():
        winners: Any = [SimpleNamespace(recipe=recipe)]
        (entry,) = selection._random(config, store, zoo, dataset, parts, winners)
        assert entry.recipe.key != key
    apart = halves(zoo, {"a": (0, 1), "b": (1, 0)})  # only whole models have both sets
    assert selection._random(config, store, zoo, dataset, apart, []) == []


def candidates(*recipes: Recipe) -> list[Candidate]:
    return [
        Candidate(n, recipe, "reassembly", 1, 1, {}, "complete", "", 0.1)
        for n, recipe in enumerate(recipes)
    ]


def test_winners_differ_in_two_blocks_or_in_much_of_their_work(setting: Setting) -> None:
    zoo = setting.zoo
    whole = len(zoo["b"].graph)
    first = Recipe((BlockRef("a", 0, 1), BlockRef("b", 2, 8), BlockRef("b", 8, whole)))
    stem = Recipe((BlockRef("b", 0, 1), BlockRef("b", 2, 8), BlockRef("b", 8, whole)))
    two = Recipe((BlockRef("b", 0, 1), BlockRef("b", 2, 8), BlockRef("a", 3, 4)))
    macs = {name: [node.macs for node in model.graph.nodes] for name, model in zoo.items()}
    own = [macs["a"][0], macs["b"][0]]
    shared = sum(macs["b"][2:])
    expected = max(part / (part + shared) for part in own)
    assert share_apart(first, stem, zoo) == pytest.approx(expected)
    assert share_apart(stem, first, zoo) == pytest.approx(expected)
    assert share_apart(first, first, zoo) == 0

    def chosen(count: int, least: float) -> list[int]:
        found = islice(apart(candidates(first, stem, two, first), zoo, least), count)
        return [candidate.id for candidate in found]

    assert chosen(3, expected * 1.01) == [0, 2]  # the stem alone is too little
    assert chosen(3, expected * 0.99)[:2] == [0, 1]
    assert chosen(1, 0.0) == [0]


def test_candidates_begin_in_brackets(setting: Setting, tmp_path: Path) -> None:
    """Without anything shown all are the next best; none begins twice."""
    cuts = [(a, b) for a in (1, 2, 3) for b in range(1, 8)]
    recipes = [Recipe((BlockRef("a", 0, a), BlockRef("b", b, 8))) for a, b in cuts]
    found = [
        Candidate(n, recipe, "reassembly", 1, 1, {"probe": float(-n)}, "complete", "", 0.1)
        for n, recipe in enumerate(recipes)
    ]
    store = RunStore(tmp_path)
    with store.open("candidates.parquet", "wb") as file:
        pq.write_table(to_table(found, ["probe"], {}), file)
    changes = {"winners": 1, "candidates": 7, "brackets": 3, "baselines": (),
               "least_difference": 0.0}  # fmt: skip
    finetune = setting.job.finetune.model_copy(update=changes)
    job = setting.job.model_copy(update={"finetune": finetune})
    first, more = selection.select_entries(job, store, setting.zoo, setting.dataset, ())
    brackets = [first, *(more([]) for _ in range(8))]
    assert [len(entries) for entries in brackets] == [3, 2, 2, 3, 3, 3, 3, 2, 0]
    every = [entry for entries in brackets for entry in entries]
    assert [entry.recipe.key for entry in every] == [recipe.key for recipe in recipes]
    assert [entry.name for entry in every] == [f"reassembly {n}" for n in range(1, 22)]
    # What the first bracket has shown: blocks of b that begin early do well.
    seen = [
        Raced(e.name, e.role, e.recipe, 1, (Seen(4, 0.9 - 0.1 * e.recipe.blocks[1].start, 0.5),))
        for e in every[:3]
    ]
    _, more = selection.select_entries(job, store, setting.zoo, setting.dataset, ())
    further = more(seen)
    assert [e.expected is not None for e in further] == [False, True]
    assert not {e.recipe.key for e in further} & {e.recipe.key for e in first}


def test_as_many_random_recipes_as_winners(setting: Setting, tmp_path: Path) -> None:
    parts = halves(setting.zoo, {"a": (0, 1), "b": (0, 1)})
    whole: Any = SimpleNamespace(recipe=Recipe.whole("a", len(setting.zoo["a"].graph)))
    store = RunStore(tmp_path / "run")
    found = selection._random(
        winning(setting, 2), store, setting.zoo, setting.dataset, parts, [whole]
    )
    assert [entry.name for entry in found] == ["random recipe", "random recipe 2"]
    assert len({entry.recipe.key for entry in found}) == 2
    assert all(len(entry.recipe.models) == 2 for entry in found)


def test_models_get_heads_that_read_every_block_where_reassemblies_do(
    setting: Setting, tmp_path: Path
) -> None:
    search = setting.job.search.model_copy(update={"head": "blocks"})
    job = setting.job.model_copy(update={"search": search})
    parts, store = halves(setting.zoo, {"a": (0, 1), "b": (0, 1)}), RunStore(tmp_path / "run")
    found = selection._single(job, store, setting.zoo, setting.dataset, parts, [])
    assert {entry.name for entry in found} == {"a", "b"}
    drawn = selection._random(job, store, setting.zoo, setting.dataset, parts, [])
    for entry in (*found, *drawn):
        assert (len(entry.recipe.blocks), entry.recipe.taps) == (2, "blocks")
    assert all(len(entry.recipe.models) == 2 for entry in drawn)


def test_first_blocks_of_models_are_single_models(setting: Setting, tmp_path: Path) -> None:
    """They stand among the whole ones by the same score, and are no random recipes."""
    search = setting.job.search.model_copy(update={"prefixes": True})
    job = setting.job.model_copy(update={"search": search})
    parts, store = halves(setting.zoo, {"a": (0, 1), "b": (1, 1)}), RunStore(tmp_path / "run")
    found = selection._single(job, store, setting.zoo, setting.dataset, parts, [])
    assert {entry.name for entry in found} == {"a", "b", "a[0,3)", "b[0,3)"}
    assert {entry.role for entry in found} == {"single"}
    scores = [entry.scores["probe"] for entry in found]
    assert scores == sorted(scores, reverse=True)
    (start,) = (entry.recipe for entry in found if entry.name == "b[0,3)")
    assert start.blocks == (BlockRef("b", 0, 3),)
    whole = selection._single(setting.job, store, setting.zoo, setting.dataset, parts, [])
    assert {entry.name for entry in whole} == {"a", "b"}
    (entry,) = selection._random(job, store, setting.zoo, setting.dataset, parts, [])
    assert len(entry.recipe.models) == 2
