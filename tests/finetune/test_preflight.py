"""Mistakes of plain models and changed winners that are told before anything is computed."""

from __future__ import annotations

from typing import Any

import pytest

from zoo_search.config import load_job
from zoo_search.core.errors import UserError
from zoo_search.finetune.preflight import check_networks

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
