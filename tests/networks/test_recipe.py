from pathlib import Path

import pytest

from zoo_search.core.errors import UserError
from zoo_search.networks import BlockRef, Recipe

PLAIN = {
    "blocks": [
        {"model": "cnn", "start": 0, "stop": 3},
        {"model": "vit", "start": 1, "stop": 4},
    ],
    "head": "source",
}


def test_mapping_and_yaml_round_trip(tmp_path: Path):
    recipe = Recipe.from_any(PLAIN)
    assert recipe.to_dict() == PLAIN
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    assert Recipe.from_any(path) == Recipe.from_any(str(path)) == recipe
    assert Recipe.from_any(recipe) is recipe


def test_head_defaults_to_target():
    assert Recipe.from_any({"blocks": PLAIN["blocks"]}).head == "target"


def test_key_is_of_the_network_not_of_its_cuts():
    a, b, c = BlockRef("m", 0, 2), BlockRef("m", 2, 5), BlockRef("m", 3, 5)
    assert Recipe((a, b)).key == Recipe((BlockRef("m", 0, 5),)).key
    keys = {Recipe((a, b)).key, Recipe((a, c)).key, Recipe((a, b), "source").key}
    assert len(keys) == 3
    assert Recipe((a, b)).key == "117b99ccc2c9745a"  # stable over processes and versions


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({}, ["'blocks'"]),
        ({"blocks": []}, ["one or more"]),
        ({"blocks": PLAIN["blocks"], "haed": "source"}, ["haed", "Did you mean 'head'"]),
        ({"blocks": PLAIN["blocks"], "head": "new"}, ["'new'", "target", "source"]),
        ({"blocks": [{"model": "cnn", "start": 0}]}, ["block 0", "model, start, stop"]),
        ({"blocks": [{"model": "cnn", "start": 0, "stop": "3"}]}, ["whole numbers"]),
        ({"blocks": [{"model": "cnn", "start": False, "stop": 3}]}, ["whole numbers"]),
    ],
)
def test_no_recipe(mapping, words):
    with pytest.raises(UserError) as error:
        Recipe.from_any(mapping)
    assert all(word in str(error.value) for word in words)


def test_missing_file():
    with pytest.raises(UserError, match="cannot be read"):
        Recipe.from_any("nowhere.yaml")


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe((BlockRef("cmn", 0, 2),)), ["cmn", "Did you mean 'cnn'"]),
        (Recipe((BlockRef("vit", 0, 9),)), ["vit has 4 nodes"]),
        (Recipe((BlockRef("vit", 2, 2),)), ["vit has 4 nodes"]),
        (Recipe((BlockRef("vit", 1, 2),)), ["starts at cut 1", "start at 0"]),
        (Recipe((BlockRef("vit", 0, 2),), "source"), ["head: source", "End it at 4"]),
    ],
)
def test_recipe_that_does_not_fit_the_zoo(zoo, recipe, words):
    with pytest.raises(UserError) as error:
        recipe.check(zoo)
    assert all(word in str(error.value) for word in words)
