"""What every proxy keeps to, and the batches they look at."""

import json
import math

import pytest
import torch

from zoo_search.errors import UserError
from zoo_search.reassembly import BlockRef, Recipe, assemble
from zoo_search.reassembly.proxies import PROXIES, Batches, check_proxies, conditions, score
from zoo_search.reassembly.proxies.conditions import SETTINGS
from zoo_search.reassembly.scoring import Scorer, Task, scoring_zoo

MIXED = Recipe((BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("mlp", 8, 12)))
LABELS = torch.arange(64) % 4


def test_every_proxy_gives_a_finite_score_and_leaves_no_trace(zoo, images):
    net = assemble(MIXED, zoo, images=images, num_classes=4)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    batches = Batches(images, LABELS, number=1, size=8, zoo=zoo)
    scores = {name: score(net, name, batches) for name in PROXIES}
    assert len(set(scores.values())) == len(PROXIES)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    net.train()
    again = Batches(images, LABELS, number=1, size=8, zoo=zoo)
    assert {name: score(net, name, again) for name in PROXIES} == scores
    assert all(m.training for m in net.modules())


def test_a_scorer_gives_every_proxy_the_score_of_the_network_alone(zoo, images):
    task = Task(
        scoring_zoo(zoo), images, LABELS, 4, tuple(PROXIES), "random", batches=1, batch_size=8
    )
    scorer = Scorer(task)
    for recipe in (MIXED, Recipe.whole("cnn", 12)):
        outcome = scorer(recipe)
        net = assemble(recipe, zoo, "random", num_classes=4)
        batches = Batches(images, LABELS, number=1, size=8, zoo=zoo)
        assert outcome.reason == ""
        assert outcome.scores == {name: score(net, name, batches) for name in PROXIES}


def test_scores_follow_the_seed_of_the_batches(zoo, images):
    net = assemble(MIXED, zoo, images=images, num_classes=4)
    other = Batches(images, LABELS, number=1, size=8, seed=9, zoo=zoo)
    same = Batches(images, LABELS, number=1, size=8, seed=0, zoo=zoo)
    for name, setting in SETTINGS.items():
        changed = score(net, name, other) != score(net, name, same)
        assert changed == (setting.images == "batches"), name


def test_params_and_macs_by_hand(relu_net):
    batches = Batches(torch.rand(2, 3, 6, 6), size=2)
    params = (4 * 3 * 9 + 4) + (5 * 4 * 9 + 5) + (3 * 5 + 3)
    assert score(relu_net, "params", batches) == params
    assert score(relu_net, "macs", batches) == 36 * (4 * 3 * 9) + 36 * (5 * 4 * 9) + 3 * 5


def test_batches_hold_no_image_twice_and_follow_the_seed(images):
    doubled = torch.cat([images[:20], images[:20], images[20:40]])
    batches = Batches(doubled, size=32, seed=5)
    for batch in batches:
        x = doubled[torch.from_numpy(batches.indices(batch))]
        assert len(torch.unique(x.flatten(1), dim=0)) == 32
    same, other = Batches(doubled, size=32, seed=5), Batches(doubled, size=32, seed=6)
    assert (same.indices(2) == batches.indices(2)).all()
    assert not (other.indices(2) == batches.indices(2)).all()
    assert not (batches.indices(2, attempt=1) == batches.indices(2)).all()
    with pytest.raises(UserError, match=r"only 20 \(40 with duplicates\)"):
        Batches(doubled[:40], size=32)


def test_nan_and_errors_are_reasons_never_scores(zoo, images):
    task = Task(scoring_zoo(zoo), images, None, 3, ("naswot", "grad_norm", "params"), batches=1)
    outcome = Scorer(task)(MIXED)
    assert set(outcome.scores) == {"naswot", "params"}
    assert outcome.reason.startswith("grad_norm: this proxy needs labels")
    net = assemble(MIXED, zoo, "random", num_classes=3)
    with torch.no_grad():
        net.head.weight.fill_(float("nan"))
        net.blocks[2][0].get_parameter(next(net.blocks[2][0].named_parameters())[0]).fill_(math.nan)
    batches = Batches(images, LABELS % 3, number=1, zoo=zoo)
    for name in set(PROXIES) - {"params", "macs", "naswot_dery"}:
        with pytest.raises((ValueError, torch.linalg.LinAlgError), match=r"not finite|nan"):
            score(net, name, batches)


def test_unknown_proxy():
    with pytest.raises(UserError, match="Did you mean 'naswot'"):
        check_proxies(["nasswot"])


def test_conditions_name_what_a_score_was_taken_under():
    assert list(SETTINGS) == list(PROXIES)
    taken = {
        name: conditions(name, batches=5, batch_size=32, seed=7, precision="bf16")
        for name in PROXIES
    }
    assert json.loads(json.dumps(taken)) == taken
    keys = {"proxy", "hooks", "images", "batches", "batch_size", "seed", "precision"}
    assert all(set(value) == keys and value["hooks"] for value in taken.values())
    assert taken["naswot"]["images"] == 160
    assert (taken["naswot"]["batches"], taken["naswot"]["batch_size"]) == (5, 32)
    assert {value["seed"] for value in taken.values()} == {7}
    assert [taken[n]["precision"] for n in ("naswot", "synflow", "params")] == [
        "bf16",
        "fp64",
        None,
    ]
    assert [taken[n]["images"] for n in ("logme", "probe", "leep", "synflow")] == ["all"] * 3 + [0]
    assert taken["naswot"]["hooks"] != taken["naswot_dery"]["hooks"]
    assert conditions("naswot", batches=1, batch_size=2, seed=0)["precision"] == "fp32"
