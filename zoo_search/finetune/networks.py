"""Networks that are ready to be fine-tuned: assembled, started, and with what decided on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zoo_search.finetune.entry import Entry
from zoo_search.hooks import HookReport, hooks_identity
from zoo_search.reassembly.assemble import assemble
from zoo_search.reassembly.features import StitchFitter
from zoo_search.reassembly.network import ReassembledNet
from zoo_search.reassembly.recipe import Recipe
from zoo_search.reassembly.target import load_target

if TYPE_CHECKING:
    from zoo_search.config import JobConfig
    from zoo_search.data.base import VisionDataset
    from zoo_search.zoo.models import Zoo, ZooModel

__all__ = ["Network", "networks"]


@dataclass(frozen=True, eq=False)
class Network:
    """A network before its fine-tuning.

    Attributes:
        entry: What it is.
        net: The network.
        models: The models of its recipe, by name.
        reports: What the init hooks did, those that filled its models included.
        start: What decided on its first weights besides recipe and models, JSON-like.
        of: For a variant: the name of the network that it starts from.
    """

    entry: Entry
    net: ReassembledNet
    models: Mapping[str, ZooModel]
    reports: Sequence[Mapping[str, Any]]
    start: Sequence[Any]
    of: str | None = None

    @property
    def fitted(self) -> bool:
        """Whether its new parts start from values that suit the target."""
        return any(report["fitted"] for report in self.reports)


def networks(
    entries: Sequence[Entry], zoo: Zoo, dataset: VisionDataset, job: JobConfig
) -> list[Network]:
    """Assemble every entry; entries of one recipe share their network.

    Stitches are fitted to what the blocks before them really give, on as many training images as
    in the search.
    """
    models = {**zoo, **{name: m for entry in entries for name, m in entry.models.items()}}
    images, labels = load_target(
        dataset.select("train", seed=job.seed), models, job.search.fit_images
    )
    fitter = StitchFitter(models, images, chained=True)
    made: dict[str, Network] = {}
    for entry in entries:
        if entry.recipe.key in made:
            continue
        init = job.init if entry.init is None else entry.init
        net = assemble(
            entry.recipe,
            models,
            init,
            labels=labels,
            num_classes=len(dataset.classes),
            seed=job.seed,
            fitter=fitter,
        )
        made[entry.recipe.key] = Network(
            entry,
            net,
            {name: models[name] for name in entry.recipe.models},
            [*_filling(entry.recipe, models), *map(HookReport.as_dict, net.init_reports)],
            [hooks_identity(init, "candidate"), job.search.fit_images],
        )
    return [replace(made[entry.recipe.key], entry=entry) for entry in entries]


def _filling(recipe: Recipe, models: Mapping[str, ZooModel]) -> list[Mapping[str, Any]]:
    """Return the reports of the hooks that filled models of a recipe."""
    return [report for name in dict.fromkeys(recipe.models) for report in models[name].init]
