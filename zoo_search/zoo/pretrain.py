"""Train what the run file asks for with ``pretrained_on:`` and keep it in the cache."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from zoo_search import engine
from zoo_search.config import JobConfig, load_job
from zoo_search.data import Images
from zoo_search.errors import UserError, nearest
from zoo_search.linegraph import count
from zoo_search.progress import Bar, progress
from zoo_search.store import whole
from zoo_search.zoo.build import build
from zoo_search.zoo.pretrained import Plan, is_pretrained_on, plan_for, source_dataset
from zoo_search.zoo.training import accuracy, train_classifier

__all__ = ["PretrainReport", "pretrain", "untrained"]

Trained = tuple[bytes, dict[str, Any]]
"""A safetensors file, and the facts for the JSON beside it."""


@dataclass(frozen=True)
class PretrainReport:
    """What a training gave.

    Attributes:
        name: Name of the model in the zoo.
        dataset: Name of the source data.
        test_accuracy: On the test split of the source data, in [0, 1].
        train_images: Images trained on.
        epochs: Passes over them.
        seconds: Wall clock of the training, without the test.
        weights: The cached file.
        cached: Whether the weights were there already.
    """

    name: str
    dataset: str
    test_accuracy: float
    train_images: int
    epochs: int
    seconds: float
    weights: Path
    cached: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return {**asdict(self), "weights": str(self.weights)}


def pretrain(
    job: str | Path | Mapping[str, Any] | JobConfig, names: Iterable[str] | None = None
) -> dict[str, PretrainReport]:
    """Train what ``pretrained_on:`` asks for and is not cached yet.

    Where Ray is connected and several models are to be trained, they are trained side by side as
    Ray tasks with one thread each; else one after the other in this process.

    Args:
        job: Path of a run file, a mapping of the same form, or a configuration.
        names: Models to train; default: all that ask for it.

    Returns:
        A report for every such model, in the order of the run file, cached ones included.

    Raises:
        UserError: If a name is not in the zoo or asks for no training, or the data is not there.
    """
    config = load_job(job)
    engine.set_patience(config.patience)
    asking = [name for name, entry in config.zoo.items() if is_pretrained_on(entry)]
    wanted = set(asking if names is None else names)
    for name in sorted(wanted - set(asking)):
        reason = "has other weights" if name in config.zoo else "is not in the zoo"
        raise UserError(
            f"'{name}' {reason}, so there is nothing to train.{nearest(name, asking)} Models of "
            f"this run file with weights pretrained_on:DATASET: {', '.join(asking) or 'none'}."
        )
    plans = {n: plan_for(config.zoo[n], n, config) for n in asking if n in wanted}
    todo = {name: plan for name, plan in plans.items() if not plan.done}
    if todo:
        _train_all(todo)
    return {name: _read(plan, name, name not in todo) for name, plan in plans.items()}


def untrained(job: str | Path | Mapping[str, Any] | JobConfig) -> list[str]:
    """Return the names of the models whose ``pretrained_on:`` weights are not cached yet."""
    config = load_job(job)
    return [
        name
        for name, entry in config.zoo.items()
        if is_pretrained_on(entry) and not plan_for(entry, name, config).done
    ]


def _train_all(plans: Mapping[str, Plan]) -> None:
    epochs = sum(plan.settings.epochs for plan in plans.values())
    with progress("train the zoo", epochs) as bar:
        if len(plans) > 1 and engine.connected():
            _on_ray(plans, bar)
            return
        for name, plan in plans.items():

            def heard(epoch: int, loss: float, name: str = name) -> None:
                bar.advance(1, note=f"{name}: loss {loss:.3f}")

            _keep(plan, _train(plan, name, *_images(plan), heard))


def _on_ray(plans: Mapping[str, Plan], bar: Bar) -> None:
    """Train side by side, the dearest model first, so that no core waits for it at the end."""
    import ray

    @ray.remote(num_cpus=1, max_retries=2)
    def task(plan: Plan, name: str, images: tuple[Images, Images], pulse: Any) -> Trained:
        torch.set_num_threads(1)
        return _train(plan, name, *images, lambda *_: pulse.beat.remote())

    def done(index: int, trained: Trained) -> None:
        plan = plans[names[index]]
        _keep(plan, trained)
        accuracy = f"{trained[1]['test_accuracy']:.1%}"
        bar.advance(plan.settings.epochs, note=f"{names[index]}: {accuracy} on {plan.dataset}")

    names = sorted(plans, key=lambda name: -_macs(plans[name], name))
    # Models of one input size share one copy of the images.
    data = {_view(plan): ray.put(_images(plan)) for plan in plans.values()}
    pulse = engine.pulse()
    tasks = [task.remote(plans[name], name, data[_view(plans[name])], pulse) for name in names]
    engine.gather(tasks, what="the zoo's pre-training", pulse=pulse, on_result=done)


def _macs(plan: Plan, name: str) -> int:
    size = plan.transform.size
    return count(build(plan.entry, name, size[0]), (3, *size))[1]


def _view(plan: Plan) -> tuple[Any, ...]:
    fit = plan.transform
    return plan.dataset, fit.size, fit.interpolation, fit.crop_pct


@lru_cache(maxsize=1)
def _load(
    dataset: str, size: tuple[int, int], interpolation: str, crop: float
) -> tuple[Images, Images]:
    data = source_dataset(dataset)
    train = data.select(split="train").load(size, interpolation, crop)
    return train, data.select(split="test").load(size, interpolation, crop)


def _images(plan: Plan) -> tuple[Images, Images]:
    """Return the training and the test images of a plan."""
    return _load(*_view(plan))


def _train(
    plan: Plan,
    name: str,
    train: Images,
    test: Images,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Trained:
    """Train and test one model."""
    from safetensors.torch import save

    normalize = plan.transform.normalize
    module = build(plan.entry, name, plan.transform.size[0], plan.settings.seed)
    with torch.no_grad():
        shape = tuple(module(normalize(train.images[:1])).shape)
    if shape != (1, len(plan.classes)):
        raise UserError(
            f"zoo.{name}: '{plan.entry.arch}' gives {shape} for one image, but {plan.dataset} has "
            f"{len(plan.classes)} classes. Let the factory build {len(plan.classes)} outputs."
        )
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.settings.seed)  # dropout and drop path
        train_classifier(module, train.images, train.labels, normalize, plan.settings, on_epoch)
    facts = {
        "format": 1,
        "arch": plan.entry.arch,
        "kwargs": plan.entry.kwargs,
        "dataset": plan.dataset,
        "classes": list(plan.classes),
        "transform": asdict(plan.transform),
        "settings": asdict(plan.settings),
        "train_images": len(train),
        "test_images": len(test),
        "epochs": plan.settings.epochs,
        "seconds": round(time.perf_counter() - start, 2),
        "test_accuracy": accuracy(module, test.images, test.labels, normalize),
    }
    return save({key: t.contiguous().clone() for key, t in module.state_dict().items()}), facts


def _keep(plan: Plan, trained: Trained) -> None:
    """Put weights and report in the cache, each written aside and renamed; the weights last."""
    weights, facts = trained
    with whole(plan.report) as aside:
        aside.write_text(json.dumps(facts, indent=2), encoding="utf-8")
    with whole(plan.weights) as aside:
        aside.write_bytes(weights)


def _read(plan: Plan, name: str, cached: bool) -> PretrainReport:
    facts = json.loads(plan.report.read_text(encoding="utf-8"))
    return PretrainReport(
        name=name,
        dataset=plan.dataset,
        test_accuracy=float(facts["test_accuracy"]),
        train_images=int(facts["train_images"]),
        epochs=int(facts["epochs"]),
        seconds=float(facts["seconds"]),
        weights=plan.weights,
        cached=cached,
    )
