"""The step ``finetune`` of a run: winners and baselines through Ray Train, onto disk."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from zoo_search.export import save_folder
from zoo_search.finetune.drive import train_all
from zoo_search.finetune.entry import Entry, Result, Role
from zoo_search.finetune.lane import Task, Trained, read_trained
from zoo_search.finetune.recipes import train_recipe
from zoo_search.reassembly.assemble import assemble
from zoo_search.reassembly.cost import CostTable
from zoo_search.reassembly.features import StitchFitter
from zoo_search.reassembly.target import load_target
from zoo_search.store import fingerprint

if TYPE_CHECKING:
    from zoo_search.config import JobConfig
    from zoo_search.data.base import VisionDataset
    from zoo_search.store import RunStore
    from zoo_search.zoo.models import Zoo

__all__ = ["WINNERS", "Entry", "Result", "Role", "run"]

WINNERS = "winners.json"
_FORMAT = 1
_TRAINING = 3
"""Version of how a network is started and trained: a task of another version is trained anew."""


def run(
    entries: Sequence[Entry], zoo: Zoo, dataset: VisionDataset, job: JobConfig, store: RunStore
) -> list[Result]:
    """Fine-tune every entry and write ``winners.json`` and ``winners/<i>/``.

    The test images are looked at only when a protocol has ended: they choose nothing. A run that
    was killed goes on with the networks that were not finished, and with the one in work from
    its last checkpoint.

    Args:
        entries: What to fine-tune; the same network under two roles is trained once.
        zoo: The zoo.
        dataset: The target.
        job: The run: fine-tuning, start of the stitches, seed.
        store: The run directory; workers on other machines have to reach it too.

    Raises:
        UserError: If a training diverges or the workers keep failing.
    """
    nets = _assemble(entries, zoo, dataset, job)
    tasks = _tasks(entries, nets, zoo, dataset, job)
    train_all(list(tasks.values()), store)
    results = []
    for number, entry in enumerate(entries):
        key = entry.recipe.key
        trained = read_trained(store, tasks[key].key)
        assert trained is not None
        folder = f"winners/{number}"
        results.append(_export(entry, nets[key], trained, folder, zoo, dataset, store))
    store.write_json(WINNERS, _summary(results, dataset, job))
    for surplus in set(store.list("winners")) - {str(n) for n in range(len(entries))}:
        store.remove(f"winners/{surplus}")
    return results


def _summary(results: Sequence[Result], dataset: VisionDataset, job: JobConfig) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "dataset": dataset.name,
        "classes": list(dataset.classes),
        "train_images": len(dataset.select("train", seed=job.seed)),
        "test_images": len(dataset.select("test", seed=job.seed)),
        "results": [result.to_dict() for result in results],
    }


def _assemble(
    entries: Sequence[Entry], zoo: Zoo, dataset: VisionDataset, job: JobConfig
) -> dict[str, nn.Module]:
    """Return the networks by recipe key, with stitches started as in the search."""
    most = job.search.fit_images
    images, labels = load_target(dataset.select("train", seed=job.seed), zoo, most)
    fitted = job.search.init == "least_squares"
    fitter = StitchFitter(zoo, images, chained=True) if fitted else None
    return {
        entry.recipe.key: assemble(
            entry.recipe,
            zoo,
            init=job.search.init,
            labels=labels,
            num_classes=len(dataset.classes),
            seed=job.seed,
            fitter=fitter,
        )
        for entry in entries
    }


def _tasks(
    entries: Sequence[Entry],
    nets: Mapping[str, nn.Module],
    zoo: Zoo,
    dataset: VisionDataset,
    job: JobConfig,
) -> dict[str, Task]:
    """Return what the workers need, by recipe key; images of one preprocessing are put once."""
    import ray

    config = job.finetune
    recipe = train_recipe(
        config.recipe, epochs=config.epochs, batch_size=config.batch_size, lr=config.lr
    )
    if job.search.init != "least_squares":
        recipe = replace(recipe, step_limit=None)
    images: dict[tuple[str, Any], Any] = {}

    def put(split: Literal["train", "test"], how: tuple[Any, ...]) -> Any:
        if (split, how) not in images:
            loaded = dataset.select(split, seed=job.seed).load(*how)
            images[split, how] = ray.put((loaded.images, loaded.labels))
        return images[split, how]

    costs = CostTable(zoo, len(dataset.classes))
    tasks: dict[str, Task] = {}
    for entry in entries:
        wanted = entry.recipe
        if wanted.key in tasks:
            continue
        transform = zoo[wanted.blocks[0].model].transform
        how = (tuple(transform.size), transform.interpolation, transform.crop_pct)
        made_from = [
            _TRAINING,
            wanted.to_dict(),
            {name: zoo[name].weights_hash for name in wanted.models},
            [list(how), list(transform.mean), list(transform.std)],
            [dataset.fingerprint, job.seed, list(config.protocol), vars(recipe)],
            [job.search.init, job.search.fit_images],
        ]
        tasks[wanted.key] = Task(
            key=fingerprint(made_from)[:16],
            name=entry.name,
            net=ray.put(nets[wanted.key]),
            train=put("train", how),
            test=put("test", how),
            transform=transform,
            recipe=recipe,
            protocols=config.protocol,
            num_classes=len(dataset.classes),
            seed=job.seed,
            macs=costs.cost(wanted).macs,
        )
    return tasks


def _export(
    entry: Entry,
    net: nn.Module,
    trained: Trained,
    folder: str,
    zoo: Zoo,
    dataset: VisionDataset,
    store: RunStore,
) -> Result:
    cost = CostTable(zoo, len(dataset.classes)).cost(entry.recipe)
    result = Result(
        name=entry.name,
        role=entry.role,
        recipe=entry.recipe.to_dict(),
        params=cost.params,
        macs=cost.macs,
        scores=dict(entry.scores),
        protocols=trained.protocols,
        folder=folder,
    )
    net.load_state_dict(dict(trained.state))
    metadata = {
        **result.to_dict(),
        "dataset": dataset.name,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    with store.local_folder(folder) as place:
        save_folder(
            net, place, recipe=entry.recipe, zoo=zoo, classes=dataset.classes, metadata=metadata
        )
    return result
