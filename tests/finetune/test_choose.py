"""Which networks are fine-tuned beside the winners."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
from safetensors.torch import save_file

from zoo_search.config import load_job
from zoo_search.data import open_dataset
from zoo_search.finetune import choose
from zoo_search.store import RunStore
from zoo_search.zoo import Zoo, load_zoo


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    entries = {}
    for name, arch in {"a": "resnet10t", "b": "mobilenetv3_small_050"}.items():
        save_file(timm.create_model(arch).state_dict(), tmp_path / f"{name}.safetensors")
        entries[name] = {"arch": arch, "weights": str(tmp_path / f"{name}.safetensors")}
    return load_zoo({"name": "t", "dataset": "digits", "input_size": 32, "zoo": entries})


def halves(zoo: Zoo, sets: dict[str, tuple[int, int]]) -> Any:
    """Each model in two stages."""
    blocks = []
    for name, numbers in sets.items():
        cuts = (0, 3, len(zoo[name].graph))
        for stage, number in enumerate(numbers):
            block = {"model": name, "start": cuts[stage], "stop": cuts[stage + 1]}
            blocks.append(SimpleNamespace(**block, stage=stage, set=number))
    return SimpleNamespace(k=2, blocks=blocks)


def test_the_random_recipe_joins_models_and_is_no_winner(zoo: Zoo, tmp_path: Path) -> None:
    """Two of four recipes are whole models, which the random recipe shall not be."""
    config = load_job({"name": "t", "dataset": "digits", "zoo": {"a": {"arch": "resnet10t"}}})
    dataset, store = open_dataset(config.dataset, 0), RunStore(tmp_path / "run")
    parts, found = halves(zoo, {"a": (0, 1), "b": (0, 1)}), {}
    for seed in range(8):
        job = config.model_copy(update={"seed": seed})
        (entry,) = choose._random(job, store, zoo, dataset, parts, [])
        assert entry.role == "random"
        assert len(entry.recipe.models) == 2
        found[entry.recipe.key] = entry.recipe
    assert len(found) == 2
    for key, recipe in found.items():
        winners: Any = [SimpleNamespace(recipe=recipe)]
        (entry,) = choose._random(config, store, zoo, dataset, parts, winners)
        assert entry.recipe.key != key
    apart = halves(zoo, {"a": (0, 1), "b": (1, 0)})  # only whole models have both sets
    assert choose._random(config, store, zoo, dataset, apart, []) == []
