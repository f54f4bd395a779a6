"""Which networks are fine-tuned beside the winners."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from small_runs import Setting

from zoo_search.core.store import RunStore
from zoo_search.finetune import selection
from zoo_search.zoo import Zoo


def halves(zoo: Zoo, sets: dict[str, tuple[int, int]]) -> Any:
    """Each model in two stages."""
    blocks = []
    for name, numbers in sets.items():
        cuts = (0, 3, len(zoo[name].graph))
        for stage, number in enumerate(numbers):
            block = {"model": name, "start": cuts[stage], "stop": cuts[stage + 1]}
            blocks.append(SimpleNamespace(**block, stage=stage, set=number))
    return SimpleNamespace(k=2, blocks=blocks)


def test_the_random_recipe_joins_models_and_is_no_winner(setting: Setting, tmp_path: Path) -> None:
    """Two of four recipes are whole models, which the random recipe shall not be."""
    config, zoo, dataset = setting.job, setting.zoo, setting.dataset
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
