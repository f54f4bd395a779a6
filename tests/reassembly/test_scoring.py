"""A scorer against every proxy by itself."""

import math

import pytest
import torch

from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.networks.parents import Parents
from zoo_search.reassembly.proxies import PROXIES, Batches, find_proxies, score
from zoo_search.reassembly.scoring import Scorer, Scoring, ScoringTask

MIXED = Recipe((BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("mlp", 8, 12)))

LABELS = torch.arange(64) % 4


def test_a_scorer_gives_every_proxy_the_score_of_the_network_alone(zoo, images):
    scoring = Scoring(find_proxies(PROXIES), "random", batches=1, batch_size=8)
    task = ScoringTask(Parents(zoo), images, LABELS, 4, scoring)
    scorer = Scorer(task)
    for recipe in (MIXED, Recipe.whole("cnn", 12)):
        outcome = scorer(recipe)
        net = assemble(recipe, zoo, "random", num_classes=4)
        batches = Batches(images, LABELS, number=1, size=8, zoo=Parents(zoo))
        assert outcome.reason == ""
        assert outcome.scores == {name: score(net, name, batches) for name in PROXIES}


def test_nan_and_errors_are_reasons_never_scores(zoo, images):
    scoring = Scoring(find_proxies(["naswot", "grad_norm", "params"]), batches=1)
    outcome = Scorer(ScoringTask(Parents(zoo), images, None, 3, scoring))(MIXED)
    assert set(outcome.scores) == {"naswot", "params"}
    assert outcome.reason.startswith("grad_norm: this proxy needs labels")
    net = assemble(MIXED, zoo, "random", num_classes=3)
    with torch.no_grad():
        net.head.weight.fill_(float("nan"))
        net.blocks[2][0].get_parameter(next(net.blocks[2][0].named_parameters())[0]).fill_(math.nan)
    batches = Batches(images, LABELS % 3, number=1, zoo=Parents(zoo))
    for name in set(PROXIES) - {"params", "macs", "naswot_dery"}:
        with pytest.raises((ValueError, torch.linalg.LinAlgError), match=r"not finite|nan"):
            score(net, name, batches)


def test_a_candidate_has_fitted_stitches_and_a_random_head(zoo, images):
    """So documentation and proxies of gradients say; only winners get a fitted head."""
    nets = {}
    for init in ("least_squares", "random"):
        scoring = Scoring(find_proxies(["naswot"]), init, fit_images=16, seed=5)
        task = ScoringTask(Parents(zoo), images, LABELS, 4, scoring)
        nets[init] = task.assembled(MIXED, task.fitter())
    fitted, drawn = nets["least_squares"], nets["random"]
    assert [report.facts["head"] for report in fitted.init_reports] == [False]
    for one, other in zip(fitted.head.parameters(), drawn.head.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(fitted.stitches, drawn.stitches, strict=True):
        assert not any(
            torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)
        )
