"""Mistakes of plain models and changed winners that are told before anything is computed."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo_search.config import load_job
from zoo_search.core.errors import UserError
from zoo_search.finetune.preflight import check_networks, check_steps
from zoo_search.training.order import share

JOB: dict[str, Any] = {
    "name": "t",
    "dataset": "digits",
    "input_size": 32,
    "zoo": {"net": {"arch": "regnetx_002"}},  # its weights are not asked for
}


def test_what_is_right_passes_without_any_weights() -> None:
    tuning = {
        "plain": {"p": {"arch": "mobilenetv3_small_050"}},
        "variants": {
            "larger": {"input_size": 48},
            "deeper": {"models": {"net": {"arch": "regnetx_004"}, "p": {"arch": "resnet10t"}}},
            "scratch": {"input_size": 48, "init": "random"},
        },
    }
    check_networks(load_job(JOB | {"finetune": tuning}))


@pytest.mark.parametrize(
    ("init", "tuning", "message"),
    [
        (["dpait"], {}, r"^init\.0: there is no init hook 'dpait'"),
        (
            ["dpiat"],
            {"plain": {"p": {"arch": "resnet10t", "init": "least_squares"}}},
            r"^finetune\.plain\.p\.weights is null: .*none of them has a part in it\. Add dpiat",
        ),
        (["least_squares"], {"variants": {"v": {"input_size": 48}}}, r"^finetune\.variants\.v: "),
        (
            [{"hook": "dpiat", "roles": ["zoo", "plain"]}],
            {"variants": {"v": {"input_size": 48}}},
            r"^finetune\.variants\.v: .*none of them has a part",
        ),
        (
            ["dpiat"],
            {"variants": {"v": {"models": {"net": {"arch": "regnetx_00444"}}}}},
            r"^finetune\.variants\.v\.models\.net\.arch: timm .* 'regnetx_00444'",
        ),
        (
            ["dpiat"],
            {"variants": {"v": {"models": {"net": {"kwargs": {"depths": 3}}}}}},
            r"^finetune\.variants\.v\.models\.net: timm cannot build",
        ),
        (
            ["dpiat"],
            {"plain": {"p": {"arch": "resnet10t", "init": [
                {"hook": "dpiat", "options": {"operator": "clp"}}]}}},
            r"^finetune\.plain\.p\.init\.0\.options\.operator: There is no transfer operator 'clp'",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_any_work(
    init: Any, tuning: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_networks(load_job(JOB | {"init": init, "finetune": tuning}))


@given(st.integers(2, 40), st.integers(1, 9), st.integers(1, 9))
def test_a_step_has_two_images_for_each_part_of_each_worker(
    batch: int, workers: int, accumulate: int
) -> None:
    """As the images of a step are shared out and cut in a training."""
    shares = [share(batch, rank, workers) for rank in range(workers)]
    least = min(len(part) for own in shares for part in np.array_split(own, accumulate))
    own = {} if batch == 16 else {"batch_size": batch}  # that of few-shot
    tuning = {"workers": workers, "accumulate": accumulate, **own}
    right = pytest.raises(UserError, match=f"most {batch // 2} parts|{batch // 2} at most")
    with right if least < 2 else contextlib.nullcontext():
        check_steps(load_job(JOB | {"finetune": tuning}).finetune)


def test_steps_that_are_large_enough_pass() -> None:
    for tuning in (
        {"workers": 8},
        {"workers": [1, 4], "accumulate": 2},
        {"schedule": "dery-short"},
    ):
        check_steps(load_job(JOB | {"finetune": tuning}).finetune)
