"""The run file that a folder of images and this machine suggest, with the reasons in comments."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo_search.config import JobConfig, load_job
from zoo_search.core.byte_names import escaped
from zoo_search.core.errors import UserError, some
from zoo_search.core.yaml_text import read_yaml
from zoo_search.run.draft import plan
from zoo_search.run.draft.hardware import Hardware, look_up
from zoo_search.run.draft.images import Folder, look_up_folder, name_of
from zoo_search.run.draft.models import Model, choose_models, choose_size
from zoo_search.run.draft.sections import sections
from zoo_search.run.images import check_images
from zoo_search.run.run import Run
from zoo_search.run.steps import STEPS


@dataclass(frozen=True)
class Draft:
    """A run file to start from.

    Attributes:
        name: Of the run.
        text: Of the file.
        found: What was looked up, a line each.
        notes: What is odd, or would stop the run, a paragraph each.
    """

    name: str
    text: str
    found: tuple[str, ...]
    notes: tuple[str, ...]


def draft(
    folder: str,
    near: Path | None = None,
    zoo: Sequence[str] = (),
    splits: str | None = None,
    seed: int = 0,
    hardware: Hardware | None = None,
) -> Draft:
    """Look a folder of images up and draft the run file of a search on it; writes nothing.

    Args:
        folder: A path or URI of a folder that holds a folder for each class.
        near: Where the file will lie; default: its name in the working directory.
        zoo: Models that it shall have (``NAME`` or ``NAME@WEIGHTS``); none: what suits the machine.
        splits: As ``dataset.splits`` in a run file; None: by their usual names.
        seed: Of the run.
        hardware: What the run has; None: what this machine has.

    Raises:
        UserError: If it is no folder, holds no images or one class, may be read in two ways, or a
            model cannot be had.
    """
    name = name_of(folder)
    near = near or Path(f"{name}.yaml")
    machine = look_up() if hardware is None else hardware
    images = look_up_folder(folder, splits, seed, near)
    size = choose_size(images.side, machine)
    classes = len(images.dataset.classes)
    models, later = choose_models(zoo, size, classes, machine)
    said = _values(name, seed, size, images, models, machine)
    job = load_job(said)
    notes = [*images.told.notes, *_bad(images), *_weights(models, later), *_problem(job, images)]
    work = plan.work_of(job, images.dataset, models)
    file = shlex.quote(escaped(near.name))
    text = sections(said, job, images, models, later, machine, work, notes, file)
    if load_job(_mapping(text)) != job:
        raise AssertionError("the comments of a drafted run file changed what it says")
    return Draft(name, text, tuple(_found(images, models, size)), tuple(notes))


def _mapping(text: str) -> dict[str, object]:
    found = read_yaml(text, "the run file")[1]
    assert isinstance(found, dict)
    return found


def _values(
    name: str, seed: int, size: int, images: Folder, models: Sequence[Model], machine: Hardware
) -> dict[str, object]:
    """Return what the run file says, by its keys and in its order."""
    budget = plan.budget_for(models)
    settings = plan.settings_for(images.dataset, machine)
    return {
        "name": name,
        "seed": seed,
        "input_size": size,
        "zoo": {model.name: dict(model.entry) for model in models},
        "dataset": images.config.as_given(),
        "partition": {"k": 4, "eps": plan.eps_for(models)},
        "budget": {"max_params": budget.max_params, "max_macs": budget.max_macs},
        **settings,
    }


def _bad(images: Folder) -> Iterator[str]:
    bad = images.seen.bad
    if bad:
        looked = len(bad) + len(images.seen.sides)
        named = some([f"{name} ({reason})" for name, reason in bad.items()])
        yield (
            f"{len(bad)} of {looked} images that were looked at cannot be decoded: {named}. A run "
            f"passes over {images.config.max_bad:.0%} of them at most (dataset.max_bad): repair or "
            "remove them, or allow more."
        )


def _weights(models: Sequence[Model], later: Sequence[Model]) -> Iterator[str]:
    missing = [model for model in models if model.problem is not None]
    if missing:
        yield (
            f"The weights of {some([m.name for m in missing], ', ', ' and')} are not in the local "
            f"cache and cannot be fetched now: {missing[0].problem}. The run fetches them when it "
            "begins, so connect to the network before that; or let 'weights' of each name a file."
        )
    if later:
        yield (
            f"The weights of {some([m.name for m in later], ', ', ' and')} cannot be fetched now "
            f"({later[0].problem}). These models stand in comments, and the zoo holds those whose "
            "weights are here. When there is a network, draft the file again, or take the # away."
        )


def _problem(job: JobConfig, images: Folder) -> Iterator[str]:
    """Yield what would stop a run before its first step."""
    run = Run.open(job)
    vars(run)["dataset"] = images.dataset  # the same, listed already
    try:
        check_images(run, list(STEPS))
    except UserError as error:
        yield f"As it is, a run would stop at once: {error}"


def _found(images: Folder, models: Sequence[Model], size: int) -> Iterator[str]:
    counts: Mapping[str, int] = {part: sum(n) for part, n in images.told.counts.items()}
    told = ", ".join(f"{n} for {_purpose(part)}" for part, n in counts.items())
    yield f"{len(images.dataset.classes)} classes, {sum(counts.values())} images: {told}"
    low, high = (np.percentile(images.seen.sides.min(axis=1), q) for q in (10, 90))
    sides = f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"
    yield f"most of them {sides} pixels at the shorter side; models see {size}"
    yield f"{len(models)} models: {', '.join(model.name for model in models)}"


def _purpose(part: str) -> str:
    return {"train": "the training", "validation": "the validation", "test": "the test"}[part]
