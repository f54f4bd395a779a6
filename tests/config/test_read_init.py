"""Hooks, plain models and variants in a run file."""

from __future__ import annotations

from typing import Any

import pytest

from zoo_search.config import HookConfig, load_job
from zoo_search.core.errors import UserError

JOB: dict[str, Any] = {
    "name": "x",
    "dataset": "digits",
    "zoo": {
        "a": {"arch": "resnet10t"},
        "b": {"arch": "resnet14t", "weights": None, "source": "a"},
    },
}


def test_the_run_file_takes_names_sections_and_a_single_hook() -> None:
    default = load_job(JOB)
    assert [(h.hook, h.roles) for h in default.init] == [
        ("dpiat", ("zoo", "plain", "variant")),
        ("least_squares", ("candidate",)),
    ]
    assert load_job(JOB | {"init": "dpiat"}).init == (HookConfig(hook="dpiat"),)
    mixed = load_job(JOB | {"init": ["random", {"hook": "dpiat", "roles": ["zoo"]}]}).init
    assert [h.hook for h in mixed] == ["random", "dpiat"]
    assert mixed[1].roles == ("zoo",)
    assert load_job(JOB | {"init": []}).init == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"init": [{"hook": "dpiat", "role": ["zoo"]}]},
            r"unknown key 'role'.*Did you mean 'roles'",
        ),
        ({"init": [{"hook": "dpiat", "roles": ["zu"]}]}, r"init\.0\.roles\.0"),
        ({"zoo": {"a": {"arch": "x", "source": "b"}}}, r"zoo\.a\.source is for models without"),
        (
            {"zoo": {"lite0": {"arch": "x"}, "b": {"arch": "y", "weights": None, "source": "lit"}}},
            r"zoo\.b\.source: no model of the zoo has weights and this name: 'lit'.*'lite0'\?",
        ),
        ({"finetune": {"plain": {"a": {"arch": "x"}}}}, r"plain\.a: a model of the zoo has this"),
        (
            {"finetune": {"plain": {"c": {"arch": "x", "weights": "pretrained_on:digits"}}}},
            r"finetune\.plain\.c\.weights: 'pretrained_on:digits' is for models of the zoo",
        ),
        (
            {"finetune": {"variants": {"v": {"of": "reassembly 17", "input_size": 64}}}},
            r"variants\.v\.of: no network is fine-tuned under this name: 'reassembly 17'",
        ),
        (
            {"finetune": {"variants": {"v": {"models": {"c": {"arch": "x"}}}}}},
            r"variants\.v\.models: no model of the zoo has this name: 'c'",
        ),
        ({"finetune": {"variants": {"v": {}}}}, r"variants\.v': it changes nothing"),
        (
            {"finetune": {"variants": {"v": {"models": {"a": {}}}}}},
            r"variants\.v\.models\.a': it changes nothing",
        ),
        ({"finetune": {"plain": {"random recipe": {"arch": "x"}}}}, "search finds has this"),
        (
            {"finetune": {"plain": {"p": {"arch": "x"}}, "variants": {"p": {"input_size": 64}}}},
            r"finetune\.variants\.p: a plain model has this name; choose another",
        ),
        ({"zoo": {"a@b": {"arch": "x"}}}, "the name 'a@b' holds an @"),
        (
            {"finetune": {"plain": {"c": {"arch": "x", "init": [{"hooks": "dpiat"}]}}}},
            r"unknown key 'hooks' .* Did you mean 'hook'\? Allowed there: hook, roles, options",
        ),
    ],
)
def test_mistakes_in_the_run_file(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_job(JOB | change)
