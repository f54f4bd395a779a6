"""Networks that are ready to be fine-tuned: assembled, started, and with what decided on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from zoo_search.config import JobConfig
from zoo_search.data.base import Subset
from zoo_search.finetune.entries import Entry
from zoo_search.finetune.weighting import class_weights
from zoo_search.hooks import HookReport, hooks_identity
from zoo_search.networks.assemble import assemble
from zoo_search.networks.fitter import StitchFitter
from zoo_search.networks.network import ReassembledNet
from zoo_search.networks.target_images import load_target
from zoo_search.zoo.models import Zoo, ZooModel


@dataclass(frozen=True, eq=False)
class Network:
    """A network before its fine-tuning."""

    entry: Entry
    net: ReassembledNet
    models: Mapping[str, ZooModel]  # of its recipe, by name
    reports: tuple[HookReport, ...]  # of the init hooks, those that filled its models included
    # What decided on its first weights besides recipe and models, JSON-like.
    start: Sequence[object]
    of: str | None = None  # for a variant: the name of the network that it starts from

    @property
    def fitted(self) -> bool:
        """Whether its new parts start from values that suit the target."""
        return any(report.fitted for report in self.reports)


def build_networks(
    entries: Sequence[Entry], zoo: Zoo, train: Subset, job: JobConfig, seed: int
) -> list[Network]:
    """Assemble every entry; entries of one recipe share their network.

    Stitches are fitted to what the blocks before them really give, on as many training images as
    in the search.
    """
    models = {**zoo, **{name: m for entry in entries for name, m in entry.models.items()}}
    images, labels = load_target(train, models, job.search.fit_images)
    fitter = StitchFitter(models, images, chained=True)
    told = class_weights(job.finetune.class_weights, train)
    weights = None if told is None else torch.tensor(told, dtype=torch.float64)
    made: dict[str, Network] = {}
    for entry in entries:
        if entry.recipe.key in made:
            continue
        init, classes = job.init if entry.init is None else entry.init, len(train.classes)
        net = assemble(
            entry.recipe, models, init, None, labels, classes, seed,
            fitter=fitter, class_weights=weights,
        )  # fmt: skip
        made[entry.recipe.key] = Network(
            entry,
            net,
            {name: models[name] for name in entry.recipe.models},
            (*(r for name in entry.recipe.models for r in models[name].init), *net.init_reports),
            [hooks_identity(init, "candidate"), job.search.fit_images],
        )
    return [replace(made[entry.recipe.key], entry=entry) for entry in entries]
