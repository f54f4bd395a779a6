"""``zoo-search rank``: from a run file, and from a folder with names of models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from zoo_search.cli.app import app
from zoo_search.core.errors import UserError

SMALL = ["--set", "search.batch_size=8", "--set", "search.batches=2", "--input-size", "32"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of ten noisy pictures each, of which a fifth is drawn for the test."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for label, name in enumerate(("on", "two words", "café")):
        (root / name).mkdir()
        for i in range(10):
            pixels = rng.integers(0, 80, (32, 32, 3), dtype=np.uint8)
            pixels[..., label] += 120
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("weights")
    words = []
    for arch in ("regnetx_002", "resnet10t"):
        save_file(timm.create_model(arch).state_dict(), folder / f"{arch}.safetensors")
        words.append(f"{arch}@{folder / arch}.safetensors")
    return words


def test_models_are_ranked_without_a_run_file(images: Path, models: list[str]) -> None:
    words = ["rank", "--images", str(images), *models, "--budget", "max_params=3e6", *SMALL]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    # What fits comes first, whatever it scores.
    assert [(row["model"], row["in_budget"]) for row in rows] == [
        ("regnetx_002", True),
        ("resnet10t", False),
    ]
    assert rows[0]["params"] < 3e6 < rows[1]["params"]
    for row in rows:
        # The fields that there were, and those that came.
        assert row.keys() == {
            "model", "score", "params", "macs", "in_budget", "reason", "expected_accuracy",
            "standard_error", "held_out", "folds", "guessed",
        }  # fmt: skip
        assert (row["held_out"], row["folds"], row["reason"]) == (24, 5, "")
        assert 0.5 < row["expected_accuracy"] <= 1  # the classes are colours
        assert row["guessed"] == pytest.approx(1 / 3)
    done = CliRunner().invoke(app, words)
    told = " ".join(done.stdout.split())
    assert "1 of 2 models fit the budget (at most 3.00 M parameters) and come first" in told
    assert "5-fold cross-validation over 24 training images" in told
    assert "params (M)" in told
    assert "MACs (G)" in told
    assert max(map(len, done.stdout.partition("\nprobe:")[2].splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "needs either one run file.*no names and no --images"),
        (["a.yaml", "b.yaml"], "needs either one run file.*2 names and no --images"),
        (["a.yaml", "--input-size", "64"], "--input-size goes with --images"),
        (["a.yaml", "--budget", "max_macs=1"], "--budget goes with --images.*--set budget"),
        (["--images", "nowhere", "resnet18"], "dataset.path: there is nothing at /.*/nowhere"),
        (["--images", "nowhere"], "no model is given"),
    ],
)
def test_what_is_missing_is_told(words: list[str], told: str) -> None:
    done = CliRunner().invoke(app, ["rank", *words])
    assert isinstance(done.exception, UserError)
    assert re.search(told, str(done.exception)), done.exception


def test_without_a_network_it_is_told_how_to_name_a_file(
    images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    done = CliRunner().invoke(app, ["rank", "--images", str(images), "lcnet_075", *SMALL])
    assert isinstance(done.exception, UserError)
    told = str(done.exception)
    assert "is not in the local cache" in told
    assert "HF_HUB_OFFLINE is set" in told
    assert told.endswith("Here, a model with weights of a file is NAME@FILE.")


def test_too_few_images_are_told_with_the_option_that_helps(
    images: Path, models: list[str]
) -> None:
    done = CliRunner().invoke(app, ["rank", "--images", str(images), models[0]])
    assert str(done.exception).startswith("search.batch_size: proxies look at batches of 32")
    assert str(done.exception).endswith("Here: --set search.batch_size=8, or the like.")


def test_an_unknown_name_is_answered_with_the_nearest(images: Path) -> None:
    done = CliRunner().invoke(app, ["rank", "--images", str(images), "resnt18", *SMALL])
    assert "knows no architecture 'resnt18'. Did you mean 'resnet18'?" in str(done.exception)
