"""What decides on a result: golden hashes of a run file as it was written before keys were renamed.

A change here puts every finished run out of date.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from zoo_search.config import JobConfig, load_job
from zoo_search.config.section import LATE, UNHASHED, Renamed, Section
from zoo_search.core.errors import Note, UserError
from zoo_search.core.identity import fingerprint

OLD = {
    "name": "golden",
    "patience": 60,
    "zoo": {"m": {"arch": "resnet18", "kwargs": {"in_chans": 1}, "weights": None}},
    "dataset": {"name": "digits", "per_class": 20},
    "similarity": {"metric": "rbf_cka", "workers": 3, "compile": True, "window_mb": 9},
    "partition": {"k": 3, "workers": 2, "one_per_set": False},  # the default until it was true
    "budget": {"max_params": 5e6, "licenses": ["mit"]},
    # The default proxy until it was the probe.
    "search": {"trials": 7, "storage": "sqlite:///x.db", "workers": 1, "proxies": ["naswot"]},
    "finetune": {"recipe": "timm", "plain": {"p": {"arch": "lcnet_050"}}},
}
GOLDEN = {
    "similarity": "843e8ac6d633fb68a81bf2d081d195b13246a16e5879128e893584dd7a3104ec",
    "partition": "1d05687a52bd573170d9d3d1a32e7e3782eb43d3d33dd69851efd35e67aa0a30",
    "search": "18fee6e810e1302cedfca4a0dfd88fcc47ab06e03ff9a5abad023c58aa277cbe",
    "budget": "736d2d12962bfa7d321a17338f98a3f03a9deb2862a2348ed2217bc6c9a18f33",
    "finetune": "2b04d229ef19a254dbf64bb6412f1b39c2e91e25475185a58ceff3954b99fe85",
}
MODEL = "51d70403dbcaec98ca8d903dbf38ca43e5e076d45e4cd32e975ac637f9109aff"
MARKS = (str, Renamed)
WHOLE = "b1f88c221b5dd735ed98651f62c01868af44c93d80ad7b37ecd4592713a7d8db"


@pytest.fixture(scope="module")
def job() -> JobConfig:
    with pytest.warns(Note):
        return load_job(OLD)


@pytest.mark.parametrize("section", GOLDEN)
def test_golden_hashes_of_sections(job: JobConfig, section: str) -> None:
    assert fingerprint(getattr(job, section).identity()) == GOLDEN[section]


def test_golden_hash_of_a_model_and_of_the_whole(job: JobConfig) -> None:
    assert fingerprint(job.zoo["m"].identity()) == MODEL
    assert fingerprint(job.to_yaml(first_names=True)) == WHOLE


def test_what_changes_no_result_is_no_part_of_an_identity(job: JobConfig) -> None:
    free = {
        "similarity": {"workers": None, "compile": False, "window_mb": 256},
        "partition": {"workers": None},
        "search": {"workers": None, "storage": None},
    }
    for name, change in free.items():
        section = getattr(job, name)
        other = section.model_copy(update=change)
        assert other != section
        assert other.identity() == section.identity()
        assert other.identity(unhashed=True) == section.identity(unhashed=True) | change
    assert "trials" not in job.search.identity(without=("trials",))


def test_what_came_late_counts_where_it_is_not_at_its_default(job: JobConfig) -> None:
    plain = job.finetune.identity()
    for change in (
        {"precision": "bf16"},
        {"accumulate": 2},
        {"sync_bn": True},
        {"validation": 0.1},
        {"metric": "macro_f1"},
        {"class_weights": "balanced"},
    ):
        assert job.finetune.model_copy(update=change).identity() == plain | change
    similar = job.similarity.identity()
    assert not {"dataset", "table"} & set(similar)
    other = load_job(
        yaml.safe_load(job.to_yaml()) | {"similarity": {"metric": "rbf_cka", "dataset": "mnist5k"}}
    )
    named = other.similarity.identity()["dataset"]
    assert other.similarity.identity() == similar | {"dataset": named}
    assert named["name"] == "mnist5k"
    free = {"workers": 2, "gpus_per_worker": 0.5, "compile": True, "keep_decoded": 0.5}
    other = job.finetune.model_copy(update=free)
    assert other.identity() == plain
    assert other.identity(unhashed=True) == job.finetune.identity(unhashed=True) | free


def sections(model: type[BaseModel]) -> Iterator[type[Section]]:
    """The section class and all below it."""
    if issubclass(model, Section):
        yield model
    for field in model.model_fields.values():
        waiting: list[Any] = [field.annotation]
        while waiting:
            one = waiting.pop()
            waiting += get_args(one)
            if isinstance(one, type) and issubclass(one, BaseModel):
                yield from sections(one)


def test_these_settings_are_marked() -> None:
    marked = {
        f"{section.__name__}.{name}": [
            m for m in field.metadata if m in (UNHASHED, LATE) or type(m) is Renamed
        ]
        for section in sections(JobConfig)
        for name, field in section.model_fields.items()
    }
    assert {name: marks for name, marks in marked.items() if marks} == {
        "DatasetConfig.splits": [LATE],
        "DatasetConfig.dedupe": [LATE],
        "DatasetConfig.value_range": [LATE],
        "DatasetConfig.max_pixels": [LATE],
        "SimilarityConfig.dataset": [LATE],
        "SimilarityConfig.table": [LATE],
        "SimilarityConfig.compile": [UNHASHED],
        "SimilarityConfig.window_mb": [UNHASHED],
        "SimilarityConfig.workers": [UNHASHED],
        "PartitionConfig.shift": [LATE],
        "PartitionConfig.tolerance": [LATE],
        "PartitionConfig.workers": [UNHASHED],
        "SearchConfig.storage": [UNHASHED],
        "SearchConfig.workers": [UNHASHED],
        "SearchConfig.prefixes": [LATE],
        "SearchConfig.head": [LATE],
        "SearchConfig.hours": [UNHASHED, LATE],
        "FinetuneConfig.candidates": [LATE],
        "FinetuneConfig.brackets": [LATE],
        "FinetuneConfig.tries": [LATE],
        "FinetuneConfig.least_difference": [LATE],
        "FinetuneConfig.schedule": [Renamed("recipe")],
        "FinetuneConfig.workers": [UNHASHED, LATE],
        "FinetuneConfig.gpus_per_worker": [UNHASHED, LATE],
        "FinetuneConfig.precision": [LATE],
        "FinetuneConfig.accumulate": [LATE],
        "FinetuneConfig.sync_bn": [LATE],
        "FinetuneConfig.compile": [UNHASHED, LATE],
        "FinetuneConfig.keep_decoded": [UNHASHED, LATE],
        "FinetuneConfig.seeds": [LATE],
        "FinetuneConfig.finalists": [LATE],
        "FinetuneConfig.validation": [LATE],
        "FinetuneConfig.metric": [LATE],
        "FinetuneConfig.class_weights": [LATE],
        "FinetuneConfig.retrain": [LATE],
        "FinetuneConfig.log": [UNHASHED, LATE],
        "JobConfig.timeout": [UNHASHED, Renamed("patience")],
        "PlainEntry.state": [LATE],
        "ZooEntry.state": [LATE],
    }


def test_arguments_hold_what_a_run_file_can_give_back() -> None:
    """YAML knows dates, bytes and sets; JSON, and whoever takes the arguments, do not."""
    base = {"name": "a", "dataset": "digits"}
    kept = {"a": [1, 2.5, None, True, {"b": "x"}]}
    job = load_job({**base, "zoo": {"m": {"arch": "resnet18", "kwargs": {"x": kept}}}})
    assert load_job(yaml.safe_load(job.to_yaml())) == job
    for text in ("2024-01-02", "!!binary /w==", "!!set {a}"):
        value = yaml.safe_load(f"[{text}]")
        entry = {"arch": "resnet18", "kwargs": {"x": {"y": value}}}
        with pytest.raises(UserError, match=r"zoo\.m\.kwargs.*'x\.y\.0' is .*Quote it"):
            load_job({**base, "zoo": {"m": entry}})
