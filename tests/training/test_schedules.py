"""Named schedules, what a run file overrules, and what decides on a training."""

from __future__ import annotations

import types
from dataclasses import asdict, fields, replace
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import timm

from zoo_search.config import FinetuneConfig, JobConfig, load_job
from zoo_search.config.finetuning import ScheduleConfig
from zoo_search.core.errors import UserError
from zoo_search.finetune.tasks import schedule_of
from zoo_search.training.schedules import (
    FROM_SCRATCH,
    SCHEDULES,
    Schedule,
    from_scratch,
    get_schedule,
)


def test_schedules_are_overruled_and_unknown_ones_refused() -> None:
    schedule = get_schedule("timm", epochs=2, batch_size=8, lr=0.5)
    assert (schedule.epochs("frozen"), schedule.epochs("full"), schedule.batch_size) == (2, 2, 8)
    assert (schedule.lr("frozen"), schedule.lr("full")) == (0.5, 0.5)
    assert SCHEDULES["timm"].weight_decay == 0.05
    with pytest.raises(UserError, match="Did you mean 'few-shot'"):
        get_schedule("fewshot")


def test_every_value_decides_on_the_identity() -> None:
    few = SCHEDULES["few-shot"]
    for name, value in few.identity().items():
        other = {bool: not value, str: "x"}.get(type(value), 0.123)
        assert replace(few, **{name: other}).identity() != few.identity(), name
    assert few.identity().keys() == {field.name for field in fields(few)}


def test_only_mostly_linear_nets_learn_with_muon() -> None:
    convolutional, linear = FROM_SCRATCH
    assert from_scratch(timm.create_model("test_resnet")) is convolutional
    assert from_scratch(timm.create_model("test_vit")) is linear
    assert [schedule.orthogonal for schedule in FROM_SCRATCH] == [False, True]


DERY: dict[str, Any] = {
    "lr_frozen": 1e-3,
    "lr_full": 1e-3,
    "block_lr": 1.0,
    "batch_size": 1024,
    "weight_decay": 0.05,
    "augment": "rand_augment",
    "augment_frozen": None,
    "orthogonal": False,  # AdamW
}
"""DeRy section 4."""


@pytest.mark.parametrize(("name", "epochs"), [("dery-short", 100), ("dery-full", 300)])
def test_the_schedules_of_the_paper(name: str, epochs: int) -> None:
    told = asdict(SCHEDULES[name])
    assert {key: told[key] for key in DERY} == DERY
    assert (told["epochs_frozen"], told["epochs_full"]) == (epochs, epochs)
    assert told["mixup"] > 0
    assert told["cutmix"] > 0


def plain_types(annotation: Any) -> set[Any]:
    """What a field may be, without bounds and without None: the words themselves for literals."""
    if get_origin(annotation) is Annotated:
        return plain_types(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return set().union(*map(plain_types, get_args(annotation)))
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return set() if annotation is type(None) else {annotation}


def test_every_value_of_a_schedule_can_be_overruled_in_a_run_file() -> None:
    ours = get_type_hints(Schedule)
    sections = {
        ScheduleConfig: [name for name in ours if name not in ("name", "batch_size")],
        FinetuneConfig: ["batch_size"],
    }
    for section, names in sections.items():
        for name in names:
            field = section.model_fields[name]
            assert field.default is None, name
            assert plain_types(field.annotation) == plain_types(ours[name]), name
    assert set(ScheduleConfig.model_fields) == set(ours) - {"batch_size"}


def test_the_names_of_schedules_are_those_of_run_files() -> None:
    assert plain_types(ScheduleConfig.model_fields["name"].annotation) == set(SCHEDULES)
    assert all(name == schedule.name for name, schedule in SCHEDULES.items())


OTHER: dict[str, Any] = {
    "lr_frozen": 0.5,
    "lr_full": 0.25,
    "block_lr": 0.125,
    "epochs_frozen": 7,
    "epochs_full": 9,
    "weight_decay": 0.75,
    "weight_decay_full": 0.2,
    "warmup": 0.5,
    "label_smoothing": 0.0,
    "augment": "none",
    "augment_frozen": "light",
    "flip": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "erase": 0.25,
    "max_grad_norm": 2.0,
    "step_limit": 3.0,
    "step_limit_full": 4.0,
    "renew": False,
    "beta2": 0.0,
    "orthogonal": True,
    "ema": 0.5,
}
"""Values that no schedule has, zeros among them."""


def schedule_in(finetune: dict[str, Any]) -> Schedule:
    """Return the schedule of a run file, as a task gets it."""
    job: JobConfig = load_job(
        {"name": "a", "zoo": {"m": {"arch": "x"}}, "dataset": "digits", "finetune": finetune}
    )
    network: Any = SimpleNamespace(entry=SimpleNamespace(role="reassembly"), models={}, fitted=True)
    return schedule_of(network, job, job.finetune.protocol)[0]


def test_what_a_run_file_overrules_is_what_the_schedule_becomes() -> None:
    assert set(OTHER) == {f.name for f in fields(Schedule)} - {"name", "batch_size"}
    before = SCHEDULES["dery-short"]
    assert schedule_in({"schedule": "dery-short"}) == before
    for name, value in OTHER.items():
        assert getattr(before, name) != value
        found = schedule_in({"schedule": {"name": "dery-short", name: value}})
        assert found == replace(before, **{name: value})
    assert schedule_in({"schedule": "dery-short", "batch_size": 8}).batch_size == 8


def test_a_protocol_of_its_own_goes_before_both() -> None:
    found = schedule_in({"epochs": 3, "lr": 0.5, "schedule": {"epochs_full": 9, "lr_frozen": 0.1}})
    assert (found.epochs_frozen, found.epochs_full) == (3, 9)
    assert (found.lr_frozen, found.lr_full) == (0.1, 0.5)
