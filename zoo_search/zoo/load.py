"""From a run file to a zoo."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from zoo_search.config import HookRole, JobConfig, PlainEntry, ZooEntry, load_job
from zoo_search.errors import UserError
from zoo_search.hooks import Context, Piece, as_hooks, check_filled, start
from zoo_search.zoo.build import build, family_of, own_size, pretrained_cfg_of
from zoo_search.zoo.checkpoint import state_sha256
from zoo_search.zoo.models import Zoo, ZooModel
from zoo_search.zoo.preprocess import Preprocess, preprocess_for
from zoo_search.zoo.pretrained import is_pretrained_on, plan_for, weights_file
from zoo_search.zoo.weights import Source, load_weights, resolve

__all__ = ["blank", "fill", "load_plain", "load_zoo"]


def load_zoo(job: str | Path | Mapping[str, Any] | JobConfig) -> Zoo:
    """Build every model of a run file with its weights.

    Models without weights (``weights: null``) come last and are filled by the hooks of ``init``; by
    default DPIAT takes from the most similar model of the zoo that has weights. Line graphs are
    traced later, on first use.

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
            donors = {n: m for n, m in models.items() if m.spec.weights is not None}
            models[name] = fill(entry, name, config, donors, "zoo")
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


def fill(
    entry: ZooEntry, name: str, config: JobConfig, donors: Mapping[str, ZooModel], role: HookRole
) -> ZooModel:
    """Build a model without weights and let the init hooks fill it.

    Args:
        entry: The model; its ``source`` names the donor, else the hooks may choose.
        name: Its name.
        config: The run: ``init``, ``input_size``, ``seed``.
        donors: Models that can give weights.
        role: ``"zoo"`` or ``"plain"``.

    Raises:
        UserError: If it cannot be built, or no hook filled it.
    """
    module = blank(entry, name, config, "zoo" if role == "zoo" else "finetune.plain")
    given = [entry.source] if entry.source is not None else list(donors)
    piece = Piece("", module, {n: donors[n].module for n in given})
    own = entry.init if isinstance(entry, PlainEntry) else None
    hooks = as_hooks(config.init) if own is None else as_hooks(own, f"finetune.plain.{name}.init")
    reports = start(module, Context(role, name, (piece,), _seed(config, name)), hooks)
    place = f"zoo.{name}" if role == "zoo" else f"finetune.plain.{name}"
    check_filled(f"{place}.weights is null", reports)
    words = "; ".join(map(str, reports)) or "seeded random values"
    # Values that were copied come under the donor's licence, and expect the images that it expects.
    parents = [donors[r.facts["source"]] for r in reports if r.hook == "dpiat" and r.changed]
    licenses = {parent.license for parent in parents}
    source = Source(Path(), words, license=licenses.pop() if len(licenses) == 1 else None)
    facts = asdict(parents[-1].transform) if parents else {}
    model = _model(module, entry, name, _transform(entry, config, facts), source)
    return replace(model, init=tuple(report.as_dict() for report in reports))


def load_plain(
    entry: PlainEntry, name: str, config: JobConfig, donors: Mapping[str, ZooModel]
) -> ZooModel:
    """Build a plain architecture with its weights, or let the init hooks fill it.

    Raises:
        UserError: If it cannot be built or its weights cannot be had or do not fit.
    """
    if entry.weights is None:
        return fill(entry, name, config, donors, "plain")
    try:
        return _load(entry, name, config)
    except UserError as error:
        told = str(error).replace(f"zoo.{name}", f"finetune.plain.{name}")
        raise UserError(told) from None


def blank(entry: ZooEntry, name: str, config: JobConfig, section: str) -> nn.Module:
    """Build the module of an entry with random weights from a seed of its own.

    Args:
        entry: The architecture.
        name: Its name.
        config: The run: ``input_size``, ``seed``.
        section: Section of the run file, for messages.

    Raises:
        UserError: If it cannot be built.
    """
    return build(entry, name, config.input_size, _seed(config, name), section=section)


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
