"""What is wrong or odd with the images of a run, found before its first step."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from zoo_search.core.errors import UserError, some
from zoo_search.core.progress import console, working
from zoo_search.data.checks.told import TOLD, tell
from zoo_search.run.run import Run

if TYPE_CHECKING:
    from zoo_search.data.base import VisionDataset


def check_images(run: Run, steps: Sequence[str]) -> None:
    """Check all that the index of the images tells of what the steps need; decodes none.

    Raises:
        UserError: If a data set cannot be opened, has a single class or a class without training
            images, or has too few for the similarity, the scores, the test or the validation.
    """
    # Not before: a mistake in the run file needs no torch.
    from zoo_search.finetune.images.places import folds_of
    from zoo_search.finetune.weighting import check_names
    from zoo_search.similarities.api import chunks

    if "reassemble" in steps:
        _check_classes(run.dataset)
        _check_batch(run)
    if "finetune" in steps:
        _check_test(run)
        if not isinstance(run.job.finetune.class_weights, str):
            check_names(run.job.finetune.class_weights, run.dataset.classes)
        folds_of(run.dataset, run.job.seed, run.job.finetune.validation, run.job.finetune.seeds)
    config = run.job.similarity
    if "similarity" in steps and config.table is None:
        images = run.similarity_dataset.select("train", config.fraction, config.limit, run.job.seed)
        chunks(len(images), config.batch_size)


def _check_classes(dataset: VisionDataset) -> None:
    if len(dataset.classes) < 2:
        raise UserError(
            f"dataset '{dataset.name}': there is one class alone, '{dataset.classes[0]}', and "
            "nothing to tell it from. Where that is a folder above the classes, let dataset.path "
            "end in it; else add a class."
        )
    labels = dataset.select("train").labels
    counts = np.bincount(labels, minlength=len(dataset.classes))
    if none := [name for name, n in zip(dataset.classes, counts, strict=True) if not n]:
        raise UserError(
            f"dataset '{dataset.name}': of the {len(labels)} training images that dataset.limit "
            f"and dataset.fraction leave, {len(none)} of {len(counts)} classes have none: "
            f"{some(none, ', ', ' and')}. Raise them, so that there is one image a class or more."
        )


def _check_batch(run: Run) -> None:
    """Raise :class:`UserError` if no batch of the scores can be filled."""
    count, size = len(run.dataset.select("train")), run.job.search.batch_size
    if count < size:
        raise UserError(
            f"search.batch_size: proxies look at batches of {size} different images, and the data "
            f"set '{run.dataset.name}' has {count} for the training. Lower search.batch_size to "
            f"{count} or less, or give more images."
        )


def _check_test(run: Run) -> None:
    """Raise :class:`UserError` if there is no test image, which the fine-tuning ends with."""
    if run.dataset.has("test"):
        return
    config = run.job.dataset
    why = "every class has one image"
    if config.per_class is not None:
        why = f"dataset.per_class: {config.per_class} takes all images for the training"
    raise UserError(
        f"The test split of the data set '{config.name}' has no images: {why}. Lower "
        "dataset.per_class, add images, or give a test split of its own."
    )


def tell_of_images(run: Run) -> None:
    """Print what is odd with the target's images, and keep it for the report.

    It is found once for each data set, and kept as ``dataset.json``; a run directory that nobody
    may write to stays without.
    """
    made_of = run.dataset.fingerprint
    kept = run.store.kept(TOLD)
    if kept is None or kept["fingerprint"] != made_of:
        with working("looking at the images"):
            kept = {"fingerprint": made_of, **asdict(tell(run.dataset))}
        with contextlib.suppress(OSError):
            run.store.keep(TOLD, kept)
    for note in kept["notes"]:
        console.print(f"note: {note}", soft_wrap=True)
