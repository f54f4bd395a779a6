"""What a drafted run searches and trains: its budget, its settings, and how much work they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zoo_search.config import FinetuneConfig, JobConfig
from zoo_search.core.errors import UserError
from zoo_search.costs import Budget
from zoo_search.data import VisionDataset
from zoo_search.finetune.images.places import Fold, folds_of
from zoo_search.finetune.race.halving import epochs_needed, rungs
from zoo_search.finetune.race.hold import finalists_of
from zoo_search.partitions.problem.limits import smallest_eps
from zoo_search.run.draft.hardware import Hardware
from zoo_search.run.draft.models import Model
from zoo_search.training.schedules import Schedule, get_schedule

_WITHIN = 0.6  # of the zoo's models, by multiply-adds, that the budget lets through whole
_SIMILAR = 256  # images that the similarity table is made on, at least, where there are so many
_BATCH = 32  # of the proxies, by default
_SHORT = 2000  # training images from which a CPU trains fewer epochs
_BLOCKS, _EPS = 4, 0.2


@dataclass(frozen=True)
class Work:
    """How many images go through networks, at most.

    Attributes:
        similar: Images of the similarity table, each once through every model.
        scored: Images that each candidate of the search is scored on.
        trained: Images that trainings see, over all epochs and networks.
        steps: Of all trainings.
    """

    similar: int
    scored: int
    trained: int
    steps: int


def budget_for(models: Sequence[Model]) -> Budget:
    """Return limits that let the cheaper three fifths of the models through, or one alone.

    They are a little above the largest of these, in two digits.
    """
    by_macs = sorted(models, key=lambda model: model.cost.macs)
    within = by_macs[: max(1, math.ceil(_WITHIN * len(by_macs)))]
    return Budget(
        max_params=_rounded_up(max(model.cost.params for model in within)),
        max_macs=_rounded_up(max(model.cost.macs for model in within)),
    )


def _rounded_up(value: int) -> float:
    unit = 10 ** max(0, len(str(value)) - 2)
    return float(math.ceil(1.02 * value / unit) * unit)


def eps_for(models: Sequence[Model]) -> float:
    """Return the default ``partition.eps``, or the smallest with which all models can be cut."""
    needed = max(smallest_eps([1] * model.nodes, _BLOCKS) for model in models)
    return max(_EPS, math.ceil(100 * needed) / 100)


def settings_for(dataset: VisionDataset, hardware: Hardware) -> dict[str, dict[str, object]]:
    """Return what has to differ from the defaults, for so many images and on such a machine.

    By section: ``similarity``, ``search``, ``finetune``.
    """
    train = len(dataset.select("train"))
    similarity: dict[str, object] = {}
    if 0.05 * train < _SIMILAR:
        similarity["fraction"] = min(1.0, math.ceil(100 * _SIMILAR / train) / 100)
    search: dict[str, object] = {}
    finetune: dict[str, object] = {}
    if not hardware.gpus:
        search["trials"] = 100
        finetune = {"candidates": 6, "winners": 2, "tries": 1}
        if train > _SHORT:
            finetune["schedule"] = {"name": "few-shot", "epochs_frozen": 3, "epochs_full": 5}
    if train < _BATCH:
        search["batch_size"] = max(2, train)
    try:
        folds_of(dataset, 0, None, 1)
    except UserError:
        finetune["validation"] = 0
    return {
        name: section
        for name, section in (
            ("similarity", similarity),
            ("search", search),
            ("finetune", finetune),
        )
        if section
    }


def first_fold(dataset: VisionDataset, job: JobConfig) -> Fold:
    """Return what the first training of each network learns from, and is judged by."""
    return folds_of(dataset, job.seed, job.finetune.validation, 1)[0]


def work_of(job: JobConfig, dataset: VisionDataset, models: Sequence[Model]) -> Work:
    """Return how much a run of a job computes, at most: with no network given up on the way."""
    train, config = dataset.select("train", job.similarity.fraction), job.finetune
    fold = first_fold(dataset, job)
    epochs = _epochs(config, len(models), len(fold.validation or ()))
    batch = _schedule(config).batch_size
    scored = 4 * job.search.batches * job.search.batch_size
    return Work(
        similar=len(train),
        scored=min(len(dataset.select("train")), scored),
        trained=epochs * len(fold.train),
        steps=epochs * math.ceil(len(fold.train) / batch),
    )


def _schedule(config: FinetuneConfig) -> Schedule:
    return get_schedule(
        config.schedule.name,
        epochs=config.epochs,
        batch_size=config.batch_size,
        lr=config.lr,
        **config.schedule.overruled(),
    )


def _epochs(config: FinetuneConfig, models: int, judges: int) -> int:
    """Return the epochs of all trainings together."""
    schedule = _schedule(config)
    each = [schedule.epochs(protocol) for protocol in config.protocol]
    winners, finalists = config.winners, finalists_of(config, judges)
    numbers = {"reassembly": config.candidates, "single": models, "random": winners}
    if not judges:
        return sum(min(winners, n) for n in numbers.values()) * sum(each) * config.seeds
    stops = rungs(each, max(numbers.values()), winners)
    raced, _ = epochs_needed(numbers, stops, winners)
    tried = sum(min(winners, n) for n in numbers.values()) * (config.tries - 1) * each[-1]
    again = sum(min(finalists, n) for n in numbers.values()) * (config.seeds - 1) * sum(each)
    return raced + tried + again
