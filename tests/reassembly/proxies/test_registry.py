"""Proxies by name, and what is said of them; ``tests/testing/test_proxies.py`` holds the rest."""

import json

import pytest
import torch

from zoo_search.core.errors import UserError
from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.networks.parents import Parents
from zoo_search.reassembly.proxies import PROXIES, Batches, find_proxies, score
from zoo_search.reassembly.scoring import Scoring

MIXED = Recipe((BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("mlp", 8, 12)))

LABELS = torch.arange(64) % 4


def test_no_two_proxies_are_the_same_and_a_network_in_training_is_scored_as_it_would_be(
    zoo, images
):
    net = assemble(MIXED, zoo, images=images, num_classes=4)
    batches = Batches(images, LABELS, number=1, size=8, zoo=Parents(zoo))
    scores = {name: score(net, name, batches) for name in PROXIES}
    assert len(set(scores.values())) == len(list(PROXIES))
    net.train()
    assert {name: score(net, name, batches) for name in PROXIES} == scores
    assert all(m.training for m in net.modules())


def test_params_and_macs_by_hand(relu_net):
    batches = Batches(torch.rand(2, 3, 6, 6), size=2)
    params = (4 * 3 * 9 + 4) + (5 * 4 * 9 + 5) + (3 * 5 + 3)
    assert score(relu_net, "params", batches) == params
    assert score(relu_net, "macs", batches) == 36 * (4 * 3 * 9) + 36 * (5 * 4 * 9) + 3 * 5


def test_unknown_proxy():
    with pytest.raises(UserError, match="Did you mean 'naswot'"):
        find_proxies(["nasswot"])


def test_conditions_name_what_a_score_was_taken_under():
    scoring = Scoring(find_proxies(PROXIES), batches=5, batch_size=32, seed=7)
    taken = scoring.conditions()
    assert json.loads(json.dumps(taken)) == taken
    keys = {"proxy", "hooks", "version", "images", "batches", "batch_size", "seed", "precision"}
    assert all(set(value) == keys and value["hooks"] for value in taken.values())
    assert taken["naswot"]["images"] == 160
    assert (taken["naswot"]["batches"], taken["naswot"]["batch_size"]) == (5, 32)
    assert {value["seed"] for value in taken.values()} == {7}
    assert [taken[n]["precision"] for n in ("naswot", "synflow", "params")] == [
        "fp32",
        "fp64",
        None,
    ]
    assert [taken[n]["images"] for n in ("logme", "probe", "leep", "synflow")] == ["all"] * 3 + [0]
    assert [taken[n]["version"] for n in ("naswot", "naswot_dery", "synflow")] == [1, 2, 2]
    assert taken["naswot"]["hooks"] != taken["naswot_dery"]["hooks"]
