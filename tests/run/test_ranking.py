"""Models ranked without a run directory, and what their numbers mean in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo_search.config import load_job
from zoo_search.core.errors import UserError
from zoo_search.reassembly.proxies import PROXIES, find_proxies, meaning_of
from zoo_search.reassembly.ranking import RankedModel
from zoo_search.run.ranking import ZooRanking, job_of


def row(model: str, score: float | None, in_budget: bool) -> RankedModel:
    return RankedModel(
        model=model, score=score, params=10**7, macs=10**9, in_budget=in_budget, reason="",
        expected_accuracy=0.9, standard_error=0.01, held_out=640, folds=5, guessed=0.12,
    )  # fmt: skip


def test_images_and_models_are_what_a_run_file_would_hold() -> None:
    models = ["resnet18", "resnet10t@w.safetensors", "vit_tiny_patch16_224@hf-hub:a/b@main"]
    job = load_job(job_of("images/pets", models, 96, ["max_macs=5e9", "licenses=[mit, bsd]"]))
    assert [(m.arch, m.weights) for m in job.zoo.values()] == [
        ("resnet18", "timm"),
        ("resnet10t", str(Path.cwd() / "w.safetensors")),
        ("vit_tiny_patch16_224", "hf-hub:a/b@main"),
    ]
    assert (job.dataset.name, job.input_size) == ("folder", 96)
    assert job.dataset.path == str(Path.cwd() / "images/pets")
    assert (job.budget.max_macs, job.budget.licenses) == (5e9, ("mit", "bsd"))


@pytest.mark.parametrize(
    ("models", "budget", "told"),
    [
        ([], [], "no model is given to rank on them. Add names of timm"),
        (["resnet18", "resnet18@x"], [], "'resnet18' is given twice"),
        (["resnet18"], ["max_macs"], "--budget max_macs: give a limit by its name"),
        (["resnet18"], ["max_mcs=1"], "unknown key 'max_mcs' in 'budget'. Did you mean 'max_macs'"),
    ],
)
def test_what_cannot_be_ranked_is_told(models: list[str], budget: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        load_job(job_of("images", models, None, budget))


@pytest.mark.parametrize("name", list(PROXIES.ours))
def test_every_proxy_of_ours_says_what_its_number_means(name: str) -> None:
    words = meaning_of(name, find_proxies([name])[name])
    assert words.endswith(".")
    assert not words.startswith("Return")


def test_a_proxy_of_a_user_is_told_by_its_docstring() -> None:
    def spread(net: object, batches: object) -> float:
        """How far apart the logits
        of different images lie.

        More.
        """
        return 0.0

    assert meaning_of("spread", spread) == "How far apart the logits of different images lie."
    assert "does not say" in meaning_of("x", lambda net, batches: 0.0)


def test_the_words_say_what_fits_the_order_and_the_accuracy() -> None:
    limits = job_of("images", ["resnet18"], None, ["max_params=30e6", "max_macs=5e9"])
    rows = [row("a", 0.5, True), row("b", 0.9, False)]
    said = ZooRanking(rows, "probe", "R2.", load_job(limits)).words()
    assert said[0] == "probe: R2."
    assert "5-fold cross-validation over 640 training images" in said[1]
    assert "most frequent class every time gets 12 %" in said[1]
    assert said[2].startswith(
        "1 of 2 models fit the budget (at most 30.0 M parameters, at most 5.00 G MACs) and come "
        "first."
    )
    free = load_job(job_of("images", ["resnet18"], None, []))
    assert ZooRanking(rows, "probe", "", free).words()[2] == (
        "The models are sorted by probe, best first."
    )
    within = ZooRanking(rows[:1], "probe", "", load_job(limits)).words()[2]
    assert within.startswith("All models fit the budget (")
