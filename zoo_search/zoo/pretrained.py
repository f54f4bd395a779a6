"""Weights that zoo-search trains itself (``pretrained_on:DATASET``): what they are and where.

A cached file is named by the hash of all that decides its content: architecture, keyword
arguments, input size, preprocessing, the data's fingerprint and the training settings.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_search.config import DatasetConfig, JobConfig, ZooEntry
from zoo_search.errors import UserError
from zoo_search.zoo.build import is_timm, own_size, pretrained_cfg_of
from zoo_search.zoo.preprocess import Preprocess, preprocess_for
from zoo_search.zoo.training import TrainSettings

if TYPE_CHECKING:
    from zoo_search.data import VisionDataset

__all__ = ["Plan", "cache_folder", "is_pretrained_on", "plan_for", "source_dataset", "weights_file"]

_PREFIX = "pretrained_on:"
_FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """One training to do, or done.

    Attributes:
        entry: The zoo entry, with the number of classes of the source data filled in.
        dataset: Name of the source data.
        classes: Its classes.
        transform: Preprocessing; its size is the size of the training images.
        settings: How it is trained.
        weights: The cached file, there or not.
    """

    entry: ZooEntry
    dataset: str
    classes: tuple[str, ...]
    transform: Preprocess
    settings: TrainSettings
    weights: Path

    @property
    def report(self) -> Path:
        """The JSON beside the weights: accuracy, epochs, seconds, and what made them."""
        return self.weights.with_suffix(".json")

    @property
    def done(self) -> bool:
        """Whether the cached file is there; it is only ever put in place whole."""
        return self.weights.is_file() and self.report.is_file()


def is_pretrained_on(entry: ZooEntry) -> bool:
    """Return whether the entry's weights are to be trained by zoo-search."""
    return (entry.weights or "").startswith(_PREFIX)


def cache_folder() -> Path:
    """Return ``$ZOO_SEARCH_CACHE/pretrained``, by default ``~/.cache/zoo-search/pretrained``."""
    root = os.environ.get("ZOO_SEARCH_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "zoo-search") / "pretrained"


@lru_cache(maxsize=4)
def source_dataset(name: str) -> VisionDataset:
    """Open the source data by name, with the split that all cached weights were trained on."""
    from zoo_search.data import open_dataset

    return open_dataset(DatasetConfig(name=name, seed=0), seed=0)


def plan_for(entry: ZooEntry, name: str, config: JobConfig) -> Plan:
    """Return what is to be trained for a ``pretrained_on:`` entry, and where its weights lie.

    Raises:
        UserError: If there is no such data, or the kwargs ask for another number of classes.
    """
    dataset = (entry.weights or "").removeprefix(_PREFIX)
    try:
        data = source_dataset(dataset)
    except UserError as error:
        raise UserError(f"zoo.{name}.weights '{entry.weights}': {error}") from None
    asked = entry.kwargs.get("num_classes", len(data.classes))
    if asked != len(data.classes):
        raise UserError(
            f"zoo.{name}.kwargs.num_classes is {asked}, but '{dataset}', which it is trained on, "
            f"has {len(data.classes)} classes. Leave num_classes out."
        )
    if is_timm(entry):
        kwargs = {**entry.kwargs, "num_classes": len(data.classes)}
        entry = entry.model_copy(update={"kwargs": kwargs})
    size = config.input_size or own_size(entry)
    # Trained on whole images: the share that timm's own weights want cropped does not apply.
    transform = preprocess_for(entry, {**pretrained_cfg_of(entry), "crop_pct": 1.0}, size)
    settings = TrainSettings()
    made_of = {
        "format": _FORMAT,
        "arch": entry.arch,
        "kwargs": entry.kwargs,
        "transform": asdict(transform),
        "data": data.fingerprint,
        "settings": asdict(settings),
    }
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()[:32]
    weights = cache_folder() / f"{key}.safetensors"
    return Plan(entry, dataset, data.classes, transform, settings, weights)


def weights_file(plan: Plan, name: str) -> Path:
    """Return the cached weights of a plan.

    Raises:
        UserError: If they are not trained yet; says which command trains them.
    """
    if not plan.done:
        raise UserError(
            f"zoo.{name}.weights: '{plan.entry.arch}' is not trained on {plan.dataset} yet (looked "
            f"for {plan.weights.name} in {plan.weights.parent}). Run 'zoo-search zoo pretrain "
            "JOB.yaml' with this run file first; 'zoo-search run' does it by itself."
        )
    return plan.weights
