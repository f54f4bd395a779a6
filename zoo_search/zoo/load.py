"""From a run file to a zoo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from zoo_search.config import HookRole, JobConfig, JobSource, PlainEntry, ZooEntry, load_job
from zoo_search.core.identity import name_seed
from zoo_search.core.progress import console
from zoo_search.core.redaction import redacted
from zoo_search.data.preprocess import Preprocess, preprocess_for
from zoo_search.hooks import Context, Piece, as_hooks, check_filled, start
from zoo_search.zoo.build import build, family_of, is_timm, own_size, pretrained_cfg_of
from zoo_search.zoo.checkpoint import state_sha256
from zoo_search.zoo.fitting.channels import (
    as_rgb,
    average,
    check_channels,
    check_takes_rgb,
    is_grey,
)
from zoo_search.zoo.fitting.fit import Loaded, load_weights
from zoo_search.zoo.fitting.values import check_finite, in_float32
from zoo_search.zoo.hub import WeightsFile
from zoo_search.zoo.models import Zoo, ZooModel
from zoo_search.zoo.pretrained import is_pretrained_on, plan_for, weights_file
from zoo_search.zoo.weights import OWN, resolve


def load_zoo(job: JobSource) -> Zoo:
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
    for name in sorted(config.zoo, key=lambda name: config.zoo[name].weights is None):
        donors = {n: m for n, m in models.items() if m.spec.weights is not None}
        models[name] = load_model(config.zoo[name], name, config, donors, "zoo")
    return Zoo({name: models[name] for name in config.zoo})


def load_model(
    entry: ZooEntry, name: str, config: JobConfig, donors: Mapping[str, ZooModel], role: HookRole
) -> ZooModel:
    """Build a model (``"zoo"`` or ``"plain"``) with its weights, or let the init hooks fill it.

    Without weights its ``source`` names the donor; else the hooks may choose among ``donors``.

    Raises:
        UserError: If it cannot be built, its weights cannot be had or do not fit, or no hook
            filled it.
    """
    section = "zoo" if role == "zoo" else "finetune.plain"
    place = f"{section}.{name}"
    check_channels(entry.kwargs, place)
    if is_pretrained_on(entry):
        plan = plan_for(name, config)
        source = WeightsFile(weights_file(plan), str(entry.weights))
        module = build_untrained(plan.entry, name, config, section)
        loaded = load_weights(module, source, plan.entry, place, config.input_size)
        return _model(loaded.module, entry, name, plan.transform, source)
    module, notes = in_float32(build_untrained(entry, name, config, section))
    if entry.weights == OWN:
        source = WeightsFile(Path(), "the factory's own")
        check_finite(module, f"{place}.weights: {entry.arch}")
        loaded = Loaded(module, dict(entry.kwargs), notes)
        return _told(loaded, entry, name, _transform(entry, config, {}), source, place)
    if entry.weights is not None:
        with resolve(entry, place) as source:
            loaded = load_weights(module, source, entry, place, config.input_size)
        return _told(loaded, entry, name, _transform(entry, config, source.facts), source, place)
    given = [entry.source] if entry.source is not None else list(donors)
    piece = Piece("", module, {n: donors[n].module for n in given})
    own = entry.init if isinstance(entry, PlainEntry) else None
    hooks = as_hooks(config.init) if own is None else as_hooks(own, f"{place}.init")
    reports = start(module, Context(role, name, (piece,), name_seed(config.seed, name)), hooks)
    check_filled(f"{place}.weights is null", piece, reports)
    words = "; ".join(map(str, reports)) or "seeded random values"
    # Values that were copied come under the donor's licence, and expect the images that it expects.
    parents = [donors[donor] for r in reports if r.changed for donor in r.donors]
    licenses = {parent.license for parent in parents}
    source = WeightsFile(Path(), words, license=licenses.pop() if len(licenses) == 1 else None)
    facts = parents[-1].transform.to_dict() if parents else {}
    loaded = Loaded(module, dict(entry.kwargs), ())
    model = _told(loaded, entry, name, _transform(entry, config, facts), source, place)
    return replace(model, init=reports)


def _told(
    loaded: Loaded,
    entry: ZooEntry,
    name: str,
    transform: Preprocess,
    source: WeightsFile,
    place: str,
) -> ZooModel:
    """Return the model as it takes RGB images, and print what was not as the run file has it."""
    module, kwargs, notes = loaded.module, loaded.kwargs, list(loaded.notes)
    if is_grey(kwargs):
        module, kwargs = as_rgb(
            module, kwargs, lambda asked: build(entry.arch, asked, place, transform.size[0]), place
        )
        notes.append("grey: on the luma of RGB images")
        mean, std = average(transform.mean), average(transform.std)
        transform = replace(transform, mean=mean, std=std)
    elif not is_timm(entry.arch):
        check_takes_rgb(module, transform.size[0], place)
    words = redacted(source.words)
    if notes:
        console.print(f"  {place}: {words}: {'; '.join(notes)}")
        words = f"{words} ({'; '.join(notes)})"
    if kwargs != entry.kwargs:
        entry = entry.model_copy(update={"kwargs": kwargs})
    return _model(module, entry, name, transform, replace(source, words=words))


def build_untrained(entry: ZooEntry, name: str, config: JobConfig, section: str) -> nn.Module:
    """Build the module of an entry with random weights from a seed of its own.

    Raises:
        UserError: If it cannot be built; names its place in the ``section`` of the run file.
    """
    seed = name_seed(config.seed, name)
    return build(entry.arch, entry.kwargs, f"{section}.{name}", config.input_size, seed)


def _transform(entry: ZooEntry, config: JobConfig, facts: Mapping[str, object]) -> Preprocess:
    size = config.input_size or own_size(entry.arch, entry.kwargs)
    return preprocess_for(size, dict(entry), facts, pretrained_cfg_of(entry.arch))


def _model(
    module: nn.Module, entry: ZooEntry, name: str, transform: Preprocess, source: WeightsFile
) -> ZooModel:
    return ZooModel(
        name=name,
        spec=entry,
        module=module.eval(),
        transform=transform,
        family=family_of(entry.arch),
        license=entry.license or source.license,
        weights_hash=state_sha256(module.state_dict()),
        source=redacted(source.words),
        file=source.path.resolve() if source.path.is_file() else None,
    )
