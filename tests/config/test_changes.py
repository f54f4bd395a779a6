"""Values laid over a run file: what an edit of the file itself would give."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from zoo_search.config import load_job
from zoo_search.config.changes import changed
from zoo_search.core.errors import Note, UserError

SMALL: dict[str, Any] = {"name": "a", "zoo": {"m": {"arch": "resnet18"}}, "dataset": "digits"}
KEY = st.text(alphabet="abc_", min_size=1, max_size=3)
VALUE = st.one_of(st.none(), st.booleans(), st.integers(), st.lists(st.integers(), max_size=2))


@pytest.mark.parametrize(
    ("changes", "edited"),
    [
        (["partition.k=6"], {"partition": {"k": 6}}),
        (["partition.k=[2, 4]", "partition.eps=0.5"], {"partition": {"k": [2, 4], "eps": 0.5}}),
        (["dataset.per_class=5"], {"dataset": {"name": "digits", "per_class": 5}}),
        (["finetune.schedule.mixup=0.2"], {"finetune": {"schedule": {"mixup": 0.2}}}),
        (["finetune.recipe=timm"], {"finetune": {"schedule": "timm"}}),
        (["zoo.m.weights=null"], {"zoo": {"m": {"arch": "resnet18", "weights": None}}}),
        (
            ["zoo.r={arch: resnet50.a1_in1k}"],
            {"zoo": {"m": {"arch": "resnet18"}, "r": {"arch": "resnet50.a1_in1k"}}},
        ),
        (["search.storage=sqlite:///a=b.db"], {"search": {"storage": "sqlite:///a=b.db"}}),
        (["seed=1", "seed=2"], {"seed": 2}),
    ],
)
def test_a_change_is_an_edit(changes: list[str], edited: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        assert load_job(SMALL, changes) == load_job(SMALL | edited)


def test_a_name_with_dots_is_found() -> None:
    zoo = {"resnet50.a1": {"arch": "resnet50"}}
    job = load_job(SMALL | {"zoo": zoo}, ["zoo.resnet50.a1.license=mit"])
    assert job.zoo["resnet50.a1"].license == "mit"


@given(st.dictionaries(KEY, st.dictionaries(KEY, VALUE), max_size=3), KEY, KEY, VALUE)
def test_only_the_place_changes(
    data: dict[str, dict[str, Any]], outer: str, inner: str, value: Any
) -> None:
    before = yaml.safe_dump(data)
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    found = changed(data, [f"{outer}.{inner}={text}"])
    assert found == {**data, outer: {**data.get(outer, {}), inner: value}}
    assert yaml.safe_dump(data) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("", "give the place of a value"),
        ("=3", "give the place of a value"),
        ("partition..k=3", "give the place of a value"),
        ("seed.x=3", "'seed' is 0 in the run file, and no section that holds 'x'"),
        ("partition.k=[1", "--set partition.k, line 1 is not valid YAML"),
        ("partition.on.k=1", "--set: unknown key 'on' in 'partition'"),
        ("finetune.batch_size=1", "--set: 'finetune.batch_size': input should be greater than"),
    ],
)
def test_a_change_that_is_none_is_told(change: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        load_job({**SMALL, "seed": 0}, [change])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
