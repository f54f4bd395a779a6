"""From a run file to a zoo."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from zoo_search.config import JobConfig, ZooEntry, load_job
from zoo_search.errors import UserError
from zoo_search.zoo.build import build, family_of, own_size, pretrained_cfg_of
from zoo_search.zoo.checkpoint import state_sha256
from zoo_search.zoo.models import Zoo, ZooModel
from zoo_search.zoo.preprocess import Preprocess, preprocess_for
from zoo_search.zoo.pretrained import is_pretrained_on, plan_for, weights_file
from zoo_search.zoo.weights import Source, load_weights, resolve

__all__ = ["load_zoo"]


def load_zoo(job: str | Path | Mapping[str, Any] | JobConfig) -> Zoo:
    """Build every model of a run file with its weights.

    Models without weights (``weights: null``) come last and take theirs from the most similar
    model of the zoo that has weights (DPIAT). Line graphs are traced later, on first use.

    Args:
        job: Path of a run file, a mapping of the same form, or a configuration.

    Raises:
        UserError: If a model cannot be built or its weights cannot be had or do not fit.
    """
    config = load_job(job)
    models: dict[str, ZooModel] = {}
    for name, entry in config.zoo.items():
        if entry.weights is not None:
            models[name] = _load(entry, name, config)
    for name, entry in config.zoo.items():
        if entry.weights is None:
            models[name] = _transferred(entry, name, config, models)
    return Zoo({name: models[name] for name in config.zoo})


def _load(entry: ZooEntry, name: str, config: JobConfig) -> ZooModel:
    if is_pretrained_on(entry):
        plan = plan_for(entry, name, config)
        source = Source(weights_file(plan, name), str(entry.weights))
        module = build(plan.entry, name, config.input_size, _seed(config, name))
        module = load_weights(module, source, plan.entry, name, config.input_size)
        return _model(module, entry, name, plan.transform, source)
    module = build(entry, name, config.input_size, _seed(config, name))
    with resolve(entry, name) as source:
        module = load_weights(module, source, entry, name, config.input_size)
    return _model(module, entry, name, _transform(entry, config, source.cfg), source)


def _transferred(
    entry: ZooEntry, name: str, config: JobConfig, models: Mapping[str, ZooModel]
) -> ZooModel:
    """Build a model and give it the weights of the most similar one (DPIAT)."""
    from zoo_search import dpiat

    donors = {n: m.module for n, m in models.items() if m.spec.weights is not None}
    if not donors:
        raise UserError(
            f"zoo.{name}.weights is null: it takes weights from the most similar other model, but "
            "no model of the zoo has weights. Give at least one of them a source such as timm."
        )
    module = build(entry, name, config.input_size, _seed(config, name))
    best, similarity = dpiat.rank_sources(module, donors)[0]
    dpiat.transfer(donors[best], module)
    source = Source(Path(), f"DPIAT from {best} (similarity {similarity:.3f})")
    return _model(module, entry, name, _transform(entry, config, {}), source)


def _transform(entry: ZooEntry, config: JobConfig, facts: Mapping[str, Any]) -> Preprocess:
    size = config.input_size or own_size(entry)
    return preprocess_for(entry, {**pretrained_cfg_of(entry), **facts}, size)


def _model(
    module: nn.Module, entry: ZooEntry, name: str, transform: Preprocess, source: Source
) -> ZooModel:
    return ZooModel(
        name=name,
        spec=entry,
        module=module.eval(),
        transform=transform,
        family=family_of(entry),
        license=entry.license or source.license,
        weights_hash=state_sha256(module.state_dict()),
        source=source.words,
    )


def _seed(config: JobConfig, name: str) -> int:
    """Return a seed of the model's own, so that its neighbours do not change its random weights."""
    return zlib.crc32(f"{config.seed}|{name}".encode())
