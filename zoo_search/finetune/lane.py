"""What one Ray Train worker does: fine-tune a list of networks, one after the other.

A trainer of Ray costs about ten seconds of CPU to start, so there is one trainer a CPU (or GPU)
that is used, a *lane*, and not one a network. A finished network is put into the run directory at
once; the lane's checkpoints hold the network in work.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo_search.errors import UserError
from zoo_search.finetune.augment import Transform
from zoo_search.finetune.checkpoint import Begun, latest_begun, write_begun
from zoo_search.finetune.recipes import Protocol, TrainRecipe
from zoo_search.finetune.snapshot import Epoch
from zoo_search.finetune.train import accuracy, train
from zoo_search.store import RunStore

__all__ = ["Task", "Trained", "keep_trained", "read_trained", "run_lane"]

_CHECKPOINT_SECONDS = 10.0


@dataclass(frozen=True)
class Task:
    """One network to be fine-tuned.

    Attributes:
        key: Hash of all that decides on the result; names its folder while the step runs.
        name: For messages.
        net: Ray reference of the assembled network.
        train: Ray reference of ``(uint8 images, labels)`` in the network's own size.
        test: The same of the held-out images.
        transform: Normalisation.
        recipe: How to train.
        protocols: In this order, each from where the one before ended.
        num_classes: Number of classes.
        seed: Seed of order and augmentation.
        macs: Multiply-adds for one image: how much work it is.
    """

    key: str
    name: str
    net: Any
    train: Any
    test: Any
    transform: Transform
    recipe: TrainRecipe
    protocols: tuple[Protocol, ...]
    num_classes: int
    seed: int
    macs: int


@dataclass(frozen=True)
class Trained:
    """What became of a task.

    Attributes:
        protocols: As in ``winners.json``.
        state: The state dict at the end.
    """

    protocols: Mapping[str, Any]
    state: Mapping[str, Tensor]


def folder_of(key: str) -> str:
    """Return where a finished task lies in the run directory while the step runs."""
    return f"finetune/{key}"


def read_trained(store: RunStore, key: str) -> Trained | None:
    """Return a finished task, or None if it is not finished."""
    from safetensors.torch import load

    if not store.exists(folder_of(key)):
        return None
    return Trained(
        store.read_json(f"{folder_of(key)}/protocols.json"),
        load(store.read_bytes(f"{folder_of(key)}/model.safetensors")),
    )


def run_lane(config: Mapping[str, Any]) -> str | None:
    """Fine-tune the tasks of a lane that are not finished yet; runs inside a Ray Train worker.

    Args:
        config: ``tasks`` (a list of :class:`Task`), ``store`` (its URL), ``threads``.

    Returns:
        What a user has to mend, if a training could not go on: trying again would not help, so
        this is no exception.
    """
    import ray

    torch.set_num_threads(config["threads"])
    store = RunStore(config["store"])
    tasks: Sequence[Task] = config["tasks"]
    begun = latest_begun()
    for task in tasks:
        if store.exists(folder_of(task.key)):
            continue
        net = ray.get(task.net)
        train_set, held_out = ray.get(task.train), ray.get(task.test)
        mine = begun if begun is not None and begun.key == task.key else None
        try:
            trained = tune(task, net, train_set, held_out, mine, _report(task))
        except UserError as error:
            return f"{task.name}: {error}"
        keep_trained(store, task.key, trained)
    return None


Report = Callable[[Epoch, Protocol, Callable[[], Begun]], None]


def tune(
    task: Task,
    net: nn.Module,
    train_set: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    begun: Begun | None,
    report: Report,
) -> Trained:
    """Run the protocols of a task on ``net`` in place; the test images are looked at after each.

    Args:
        task: What to do.
        net: The network as it was assembled.
        train_set: uint8 images ``[N, 3, H, W]`` and labels ``[N]``.
        held_out: The same for the test.
        begun: Where to go on, if the task was interrupted.
        report: Called after every epoch with its record, the protocol and a function that says
            where the task is.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, labels = (tensor.to(device) for tensor in train_set)
    test_images, test_labels = held_out
    finished: dict[str, Any] = dict(begun.finished) if begun else {}
    todo = [protocol for protocol in task.protocols if protocol not in finished]
    for protocol in todo:
        done = dict(finished)
        result = train(
            net,
            images,
            labels,
            num_classes=task.num_classes,
            transform=task.transform,
            recipe=task.recipe,
            protocol=protocol,
            seed=task.seed,
            resume=begun.snapshot if begun and begun.protocol == protocol else None,
            on_epoch=lambda point, snapshot, protocol=protocol, done=done: report(  # type: ignore[misc]
                point, protocol, lambda: Begun(task.key, protocol, done, snapshot())
            ),
        )
        finished[protocol] = {
            "test_accuracy": accuracy(net, test_images, test_labels, task.transform),
            "trainable_params": result.trainable_params,
            "seconds": round(result.seconds, 3),
            "curve": [point.to_dict() for point in result.curve],
        }
    state = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in net.state_dict().items()
    }
    return Trained(finished, state)


def _report(task: Task) -> Report:
    """Return a report to Ray Train: metrics every epoch, a checkpoint every ten seconds."""
    import ray.train

    last = time.monotonic()

    def report(point: Epoch, protocol: Protocol, begun: Callable[[], Begun]) -> None:
        nonlocal last
        if time.monotonic() - last < _CHECKPOINT_SECONDS:
            return
        metrics = {"network": task.name, "protocol": protocol, **point.to_dict()}
        with tempfile.TemporaryDirectory() as folder:
            write_begun(Path(folder), begun())
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(metrics, checkpoint=checkpoint)
        last = time.monotonic()

    return report


def keep_trained(store: RunStore, key: str, trained: Trained) -> None:
    """Put a finished task where :func:`read_trained` finds it."""
    from safetensors.torch import save_file

    with store.local_folder(folder_of(key)) as folder:
        save_file(dict(trained.state), folder / "model.safetensors")
        text = json.dumps(trained.protocols)
        (folder / "protocols.json").write_text(text, encoding="utf-8")
