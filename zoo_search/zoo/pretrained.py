"""Weights that zoo-search trains itself (``pretrained_on:DATASET``): what they are and where.

A cached file is named by the hash of all that decides its content: architecture, keyword
arguments, input size, preprocessing, the data's fingerprint and the training settings.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo_search.config import DatasetConfig, JobConfig, ZooEntry
from zoo_search.core.errors import UserError
from zoo_search.core.files import atomic_path, cache_folder, sha256_of
from zoo_search.core.identity import fingerprint, sha256
from zoo_search.core.json_text import read_json
from zoo_search.data.preprocess import Preprocess, preprocess_for
from zoo_search.training.schedules import FROM_SCRATCH
from zoo_search.zoo.build import is_timm, own_size, pretrained_cfg_of
from zoo_search.zoo.fitting.channels import CHANNELS

if TYPE_CHECKING:
    from zoo_search.data import VisionDataset

_PREFIX = "pretrained_on:"
_FORMAT = 1
_CHECK = "check"  # in a report: hash of the rest of it and of the weights
SEED = 0
"""Of the weights, the order of the images and what the layers draw."""


@dataclass(frozen=True)
class PretrainPlan:
    """One training of a model of the zoo, to do or done; ``weights`` may be there or not."""

    name: str
    entry: ZooEntry
    """With the number of classes of the source data filled in."""
    dataset: str
    classes: tuple[str, ...]
    transform: Preprocess
    weights: Path

    @property
    def report(self) -> Path:
        """The JSON beside the weights: accuracy, epochs, seconds, and what made them."""
        return self.weights.with_suffix(".json")

    @property
    def done(self) -> bool:
        """Whether the cached files are there, as they were written."""
        return self.there and self.facts() is not None

    @property
    def there(self) -> bool:
        """Whether the cached files are there, whole or damaged."""
        return self.weights.is_file() and self.report.is_file()

    def facts(self) -> dict[str, Any] | None:
        """Return what the report says; None if it or the weights are not as they were written."""
        try:
            facts = read_json(self.report.read_text(encoding="utf-8"))
            check = facts.pop(_CHECK)
            weights = sha256_of(self.weights)
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            return None
        return facts if check == fingerprint([facts, weights]) else None

    def keep(self, weights: bytes, facts: dict[str, Any]) -> None:
        """Put weights and report in the cache, each whole or not at all; the weights last."""
        check = fingerprint([facts, hashlib.sha256(weights).hexdigest()])
        with atomic_path(self.report) as aside:
            aside.write_text(json.dumps({**facts, _CHECK: check}, indent=2), encoding="utf-8")
        with atomic_path(self.weights) as aside:
            aside.write_bytes(weights)


def is_pretrained_on(entry: ZooEntry) -> bool:
    """Return whether the entry's weights are to be trained by zoo-search."""
    return (entry.weights or "").startswith(_PREFIX)


@lru_cache(maxsize=4)
def source_dataset(name: str) -> VisionDataset:
    """Open the source data by name, with the split that all cached weights were trained on."""
    from zoo_search.data import open_dataset

    return open_dataset(DatasetConfig(name=name, seed=0), seed=0)


def plan_for(name: str, config: JobConfig) -> PretrainPlan:
    """Return what is to be trained for a ``pretrained_on:`` model, and where its weights lie.

    Raises:
        UserError: If there is no such data, or the kwargs ask for other classes or channels than it
            has.
    """
    entry, place = config.zoo[name], f"zoo.{name}"
    dataset = (entry.weights or "").removeprefix(_PREFIX)
    if entry.kwargs.get(CHANNELS, 3) != 3:
        raise UserError(
            f"{place}.kwargs.{CHANNELS} is {entry.kwargs[CHANNELS]!r}, but '{dataset}', which it "
            f"is trained on, has RGB images. Leave {CHANNELS} out."
        )
    try:
        data = source_dataset(dataset)
    except UserError as error:
        raise UserError(f"{place}.weights '{entry.weights}': {error}") from None
    asked = entry.kwargs.get("num_classes", len(data.classes))
    if asked != len(data.classes):
        raise UserError(
            f"{place}.kwargs.num_classes is {asked}, but '{dataset}', which it is trained on, "
            f"has {len(data.classes)} classes. Leave num_classes out."
        )
    if is_timm(entry.arch):
        kwargs = {**entry.kwargs, "num_classes": len(data.classes)}
        entry = entry.model_copy(update={"kwargs": kwargs})
    size = config.input_size or own_size(entry.arch, entry.kwargs)
    # Trained on whole images: the share that timm's own weights want cropped does not apply.
    transform = preprocess_for(size, dict(entry), {"crop_pct": 1.0}, pretrained_cfg_of(entry.arch))
    made_of = {
        "format": _FORMAT,
        "arch": entry.arch,
        "kwargs": entry.kwargs,
        "transform": transform.to_dict(),
        "data": data.fingerprint,
        "settings": [SEED, *map(asdict, FROM_SCRATCH)],
    }
    key = sha256(json.dumps(made_of, sort_keys=True, default=str))[:32]
    weights = cache_folder("pretrained") / f"{key}.safetensors"
    return PretrainPlan(name, entry, dataset, data.classes, transform, weights)


def weights_file(plan: PretrainPlan) -> Path:
    """Return the cached weights of a plan.

    Raises:
        UserError: If they are not trained yet, or damaged; says which command trains them.
    """
    if not plan.done:
        found = f"(looked for {plan.weights.name} in {plan.weights.parent})"
        if plan.there:
            found = f": {plan.weights} or the .json beside it changed after it was written"
        raise UserError(
            f"zoo.{plan.name}.weights: '{plan.entry.arch}' is not trained on {plan.dataset} yet "
            f"{found}. Run 'zoo-search zoo pretrain JOB.yaml' with this run file first; "
            "'zoo-search run' does it by itself."
        )
    return plan.weights
