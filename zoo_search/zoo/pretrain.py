"""Train what the run file asks for with ``pretrained_on:`` and keep it in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch

from zoo_search import cluster
from zoo_search.config import JobConfig, JobSource, load_job
from zoo_search.core.errors import UserError, nearest
from zoo_search.core.progress import Bar, console, progress
from zoo_search.data import Images, View
from zoo_search.linegraph import count
from zoo_search.training.accuracy import accuracy
from zoo_search.training.images import InMemory
from zoo_search.training.schedules import from_scratch
from zoo_search.training.train import train
from zoo_search.zoo.build import build
from zoo_search.zoo.pretrained import SEED, PretrainPlan, is_pretrained_on, plan_for, source_dataset

Trained = tuple[bytes, dict[str, object]]
"""A safetensors file, and the facts for the JSON beside it."""


@dataclass(frozen=True)
class PretrainReport:
    """What the training of a model on a data set gave.

    Attributes:
        test_accuracy: On the test split of the source data, in [0, 1].
        seconds: Wall clock of the training, without the test.
        weights: The cached file.
        cached: Whether it was there already.
    """

    name: str
    dataset: str
    test_accuracy: float
    train_images: int
    epochs: int
    seconds: float
    weights: Path
    cached: bool

    def to_dict(self) -> dict[str, object]:
        """Return the report as JSON-ready values."""
        return {**asdict(self), "weights": str(self.weights)}


def pretrain(job: JobSource, names: Iterable[str] | None = None) -> dict[str, PretrainReport]:
    """Train what ``pretrained_on:`` asks for and is not cached yet.

    Where Ray is connected and several models are to be trained, they are trained side by side as
    Ray tasks with one thread each; else one after the other in this process.

    Returns:
        A report for every model of ``names`` (default: all that ask for it), in the order of the
        run file, cached ones included.

    Raises:
        UserError: If a name is not in the zoo or asks for no training, or the data is not there.
    """
    config = load_job(job)
    cluster.set_timeout(config.timeout)
    asking = _asking(config)
    wanted = set(asking if names is None else names)
    for name in sorted(wanted - set(asking)):
        reason = "has other weights" if name in config.zoo else "is not in the zoo"
        raise UserError(
            f"'{name}' {reason}, so there is nothing to train.{nearest(name, asking)} Models of "
            f"this run file with weights pretrained_on:DATASET: {', '.join(asking) or 'none'}."
        )
    plans = {name: plan_for(name, config) for name in asking if name in wanted}
    todo = {name: plan for name, plan in plans.items() if not plan.done}
    for name, plan in todo.items():
        if plan.there:
            console.print(
                f"  zoo.{name}: {plan.weights} or the .json beside it changed after it was "
                "written: trained anew"
            )
    if todo:
        _train_all(todo)
    return {name: _read(plan, name not in todo) for name, plan in plans.items()}


def untrained(job: JobSource) -> list[str]:
    """Return the names of the models whose ``pretrained_on:`` weights are not cached yet."""
    config = load_job(job)
    return [name for name in _asking(config) if not plan_for(name, config).done]


def _asking(config: JobConfig) -> list[str]:
    return [name for name, entry in config.zoo.items() if is_pretrained_on(entry)]


def _train_all(plans: Mapping[str, PretrainPlan]) -> None:
    # Multiply-adds of an image, over all epochs: how much work each model is.
    macs = {name: _macs(plan) for name, plan in plans.items()}
    with progress("train the zoo", len(plans), work=sum(macs.values())) as bar:
        if len(plans) > 1 and cluster.connected():
            _on_ray(plans, macs, bar)
            return
        for name, plan in plans.items():

            def on_share(share: float, name: str = name) -> None:
                bar.under_way(name, share * macs[name])

            images = _load(plan.dataset, plan.transform.view)
            _done(plan, _train(plan, images, on_share), bar, macs[name])


def _on_ray(plans: Mapping[str, PretrainPlan], macs: Mapping[str, int], bar: Bar) -> None:
    """Train side by side, the dearest model first, so that no core waits for it at the end."""
    import ray

    @ray.remote(num_cpus=1, max_retries=2)
    def task(plan: PretrainPlan, images: tuple[Images, Images], pulse: cluster.Pulse) -> Trained:
        torch.set_num_threads(1)
        return _train(plan, images, cluster.beater(pulse, plan.name))

    def on_result(index: int, trained: Trained) -> None:
        name = names[index]
        finished.add(name)
        _done(plans[name], trained, bar, macs[name])

    def on_beat(shares: Mapping[str, float]) -> None:
        for name, share in shares.items():
            if name not in finished:
                bar.under_way(name, share * macs[name])

    finished: set[str] = set()
    names = sorted(plans, key=lambda name: -macs[name])
    # Models of one input size share one copy of the images.
    seen = {name: (plan.dataset, plan.transform.view) for name, plan in plans.items()}
    data = {key: ray.put(_load(*key)) for key in seen.values()}
    pulse = cluster.pulse()
    tasks = [task.remote(plans[name], data[seen[name]], pulse) for name in names]
    cluster.gather(
        tasks, what="the zoo's pre-training", pulse=pulse, on_result=on_result, on_beat=on_beat
    )


def _done(plan: PretrainPlan, trained: Trained, bar: Bar, macs: int) -> None:
    """Put a trained model in the cache."""
    weights, facts = trained
    plan.keep(weights, facts)
    said = f"{plan.name}: {facts['test_accuracy']:.1%} on {plan.dataset}"
    bar.advance(1, said, macs, plan.name)


def _macs(plan: PretrainPlan) -> int:
    size = plan.transform.size
    module = build(plan.entry.arch, plan.entry.kwargs, f"zoo.{plan.name}", size[0])
    return count(module, (3, *size))[1] * from_scratch(module).epochs_full


@lru_cache(maxsize=1)
def _load(dataset: str, view: View) -> tuple[Images, Images]:
    """Return training and test images."""
    data = source_dataset(dataset)
    return data.select(split="train").load(view), data.select(split="test").load(view)


def _train(
    plan: PretrainPlan, images: tuple[Images, Images], on_share: Callable[[float], None]
) -> Trained:
    """Train and test one model; ``on_share`` hears of the share that is done."""
    from safetensors.torch import save

    place, transform, (train_set, test) = f"zoo.{plan.name}", plan.transform, images
    module = build(plan.entry.arch, plan.entry.kwargs, place, transform.size[0], SEED)
    with torch.no_grad():
        shape = tuple(module(transform.normalize(train_set.images[:1])).shape)
    if shape != (1, len(plan.classes)):
        raise UserError(
            f"{place}: '{plan.entry.arch}' gives {shape} for one image, but {plan.dataset} has "
            f"{len(plan.classes)} classes. Let the factory build {len(plan.classes)} outputs."
        )
    schedule = from_scratch(module)
    result = train(
        module.to(memory_format=torch.channels_last),
        InMemory(train_set.images, train_set.labels),
        num_classes=len(plan.classes),
        transform=transform,
        schedule=schedule,
        protocol="full",
        seed=SEED,
        on_step=lambda share, snapshot: on_share(share),
        cure=f"Give {place} other weights than {plan.entry.weights}",
    )
    facts = {
        "format": 1,
        "arch": plan.entry.arch,
        "kwargs": plan.entry.kwargs,
        "dataset": plan.dataset,
        "classes": list(plan.classes),
        "transform": transform.to_dict(),
        "settings": asdict(schedule),
        "train_images": len(train_set),
        "test_images": len(test),
        "epochs": schedule.epochs_full,
        "seconds": round(result.seconds, 2),
        "test_accuracy": accuracy(module, InMemory(test.images, test.labels), transform),
    }
    return save({key: t.contiguous().clone() for key, t in module.state_dict().items()}), facts


def _read(plan: PretrainPlan, cached: bool) -> PretrainReport:
    facts = plan.facts()
    if facts is None:
        raise UserError(
            f"{plan.weights} was written and is not as it was written: the disk may be damaged. "
            "Set ZOO_SEARCH_CACHE to a folder on another one."
        )
    told = {key: facts[key] for key in ("test_accuracy", "train_images", "epochs", "seconds")}
    return PretrainReport(plan.name, plan.dataset, **told, weights=plan.weights, cached=cached)
