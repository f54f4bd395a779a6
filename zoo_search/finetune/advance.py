"""One network on one lane: trained to its end, or as far as it is to come for now."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from zoo_search.cluster import Pulse, beater
from zoo_search.core.errors import UserError, first_line
from zoo_search.core.store import RunStore
from zoo_search.finetune.checkpoints import Checkpoints, TaskCheckpoint
from zoo_search.finetune.entries import ProtocolResult
from zoo_search.finetune.images.places import open_images
from zoo_search.finetune.images.streaming import Streamed
from zoo_search.finetune.logs import EpochLog
from zoo_search.finetune.tasks import TrainingTask
from zoo_search.finetune.trained import (
    Failure,
    Trained,
    keep_failure,
    keep_parts,
    keep_trained,
    parts_of,
)
from zoo_search.finetune.watching import Paused, Reporter, Watcher, best_so_far
from zoo_search.networks.renewal import renew
from zoo_search.training.accuracy import Predictions, predict
from zoo_search.training.augment import Augmentation
from zoo_search.training.choice import Choice, Kept
from zoo_search.training.machine import Machine, Workers, is_out_of_memory, resolved
from zoo_search.training.precision import precision_on
from zoo_search.training.train import DivergedError, train

if TYPE_CHECKING:
    from zoo_search.config import FinetuneConfig
    from zoo_search.finetune.images.places import Place
    from zoo_search.finetune.lanes.layout import Layout
    from zoo_search.networks.network import ReassembledNet
    from zoo_search.training.images import ImageSource
    from zoo_search.training.schedules import Protocol

# What took less is as quickly repeated as written.
_EPOCH_SECONDS, _STEP_SECONDS = 10.0, 120.0
# Of what a network or its images are, and not of the machine: no other try ends better.
_IN_VAIN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Terms:
    """How the networks of a run are trained, whichever they are.

    Attributes:
        store: URL of the run directory.
        threads: That a worker computes with.
        decoders: Tasks of Ray Data that decode for a worker at once.
        task_cpus: CPUs of Ray's account that each of them holds.
        gpus: That a worker has; below 1, it takes no more than that of a GPU's memory.
        pulse: Hears of steps, and of what was changed to go on.
        precision: As in the run file.
        run: Name of the job, for logs.
        log: Services that curves go to, beside TensorBoard.
        epoch_seconds: At the end of an epoch a checkpoint is written when the last one is so old.
        step_seconds: Likewise at the end of a step.
    """

    store: str
    threads: int
    decoders: float
    task_cpus: float
    gpus: float
    pulse: Pulse
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    sync_bn: bool = False
    parts: int = 1
    run: str = ""
    log: tuple[str, ...] = ()
    epoch_seconds: float = 0.0
    step_seconds: float = 0.0

    @classmethod
    def of(
        cls, layout: Layout, store: RunStore, config: FinetuneConfig, run: str, pulse: Pulse
    ) -> Terms:
        """Return the terms of a run on workers that are laid out so."""
        return cls(
            store.url,
            layout.threads,
            layout.decoders,
            layout.task_cpus,
            layout.gpus,
            pulse,
            config.precision,
            config.compile,
            config.sync_bn,
            config.accumulate,
            run,
            config.log,
            _EPOCH_SECONDS,
            _STEP_SECONDS,
        )


def advance(
    task: TrainingTask,
    store: RunStore,
    terms: Terms,
    workers: Workers,
    device: torch.device,
    until: int | None = None,
) -> Kept | Failure | None:
    """Train one network; put it, or why there is none, into the run directory.

    It goes on from its newest checkpoint. What a user has to mend ends this task alone: to try
    again would not help.

    Args:
        until: Epochs, of all protocols together, after which it pauses with a checkpoint; for a
            single worker. None: it is trained to its end.

    Returns:
        Which weights it ends with, or, where it pauses, the best so far, if anything judges them;
        or why it was given up.
    """
    import ray

    tell, share = partial(_tell, terms.pulse, task.name), beater(terms.pulse, task.name)
    checkpoints = Checkpoints(store, task.key)
    # One worker looks, so that all go on from the same place.
    first = workers.rank == 0
    parts, place = workers.say(
        (parts_of(store, task.key) or terms.parts, _newest(task, store)) if first else None
    ) or (1, None)
    begun = None if place is None else Checkpoints(store, place[0]).read(place[1])
    if until is not None and begun is not None and _reached(task, begun) >= until:
        if until == task.epochs_before(task.protocols[-1]) == _reached(task, begun):
            _keep_for_others(task, store)
        curve = begun.snapshot.curve
        return best_so_far(begun.kept, begun.finished, begun.protocol, curve, until)
    machine = Machine(
        device,
        precision_on(device, resolved(terms.precision, device), tell),
        terms.compile,
        terms.sync_bn,
        parts,
        workers=workers,
        tell=tell,
        beat=partial(share, None),
        short=partial(keep_parts, store, task.key),
    )
    net = ray.get(task.net)
    try:
        if workers.rank:
            tune(task, net, machine, Watcher(), begun, terms)
            return None
        facts = {**vars(task.schedule), "recipe": str(task.recipe), "seed": task.seed}
        with EpochLog(store, terms.log, terms.run, task.key, task.name, facts) as log:
            seconds = terms.epoch_seconds, terms.step_seconds
            reporter = Reporter(task, checkpoints, log, share, *seconds, until)
            try:
                trained = tune(task, net, machine, reporter, begun, terms)
            except Paused as pause:
                if until == task.epochs_before(task.protocols[-1]):
                    _keep_for_others(task, store)
                return pause.best
        keep_trained(store, task.key, trained)
        checkpoints.clear()
        return list(trained.protocols.values())[-1].kept
    except (UserError, *_IN_VAIN) as error:
        failure = Failure(_reason(error), isinstance(error, DivergedError))
        if workers.rank == 0 or not failure.diverged:  # it diverges on all workers at once
            tell(failure.reason)
            if not keep_failure(store, task.key, failure):
                raise  # the other lanes would wait for this task
        if workers.size > 1 and not failure.diverged:
            raise  # the others wait for this one: Ray Train starts all of them anew
        return failure
    except RuntimeError as error:
        if is_out_of_memory(error) and workers.size > 1:
            keep_parts(store, task.key, 2 * machine.parts)
            tell(f"no room on the device: each share goes in {2 * machine.parts} parts from now on")
        raise


def _reason(error: Exception) -> str:
    """Return what a user is told of an error; where it came from, if it is a fault of ours."""
    if isinstance(error, UserError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    return (
        f"{type(error).__name__}: {first_line(error)} ({place}). Trying again would end there, "
        "too. If no setting of the run file explains it, it is a fault of zoo-search or of the "
        "network's own code: please report it with this line."
    )


def _newest(task: TrainingTask, store: RunStore) -> tuple[str, str] | None:
    """Return where the checkpoint is that a task goes on from: its own, or of one that is like it.

    The latter is at the start of the protocol in which they differ.
    """
    for key in (task.key, *([_shared(task.like)] if task.like else [])):
        name = Checkpoints(store, key).newest()
        if name is not None:
            return key, name
    return None


def _keep_for_others(task: TrainingTask, store: RunStore) -> None:
    """Keep the newest checkpoint for tasks that are like this one up to there."""
    own = Checkpoints(store, task.key)
    name = own.newest()
    if name is not None:
        Checkpoints(store, _shared(task.key)).write(own.read(name))


def _shared(key: str) -> str:
    return f"{key}.shared"


def forget(store: RunStore, key: str) -> None:
    """Remove all checkpoints of a task that is not to come any farther."""
    for each in (key, _shared(key)):
        Checkpoints(store, each).clear()


def _reached(task: TrainingTask, begun: TaskCheckpoint) -> int:
    """Return how many epochs, of all protocols, lie behind a checkpoint."""
    return task.epochs_before(begun.protocol) + len(begun.snapshot.curve)


def _tell(pulse: Pulse, name: str, line: str) -> None:
    pulse.tell.remote(f"{name}: {line}")


def tune(
    task: TrainingTask,
    net: ReassembledNet,
    machine: Machine,
    watcher: Watcher,
    resume: TaskCheckpoint | None = None,
    terms: Terms | None = None,
) -> Trained:
    """Run the protocols of a task on ``net`` in place.

    The start, and the weights after each epoch of each protocol, are judged on the validation
    images, where there are any; a protocol goes on from the weights that are kept
    (:mod:`zoo_search.training.choice`), and the last of these are the end. The test images choose
    nothing. What FULL-TUNING starts from is renewed before its first step, where the schedule says
    so.
    """
    net = net.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    finished = dict(resume.finished) if resume else {}
    choice, test = Choice(), _opened(task.test, terms)
    validation = None if task.validation is None else _opened(task.validation, terms)
    if resume:
        choice.resume(resume.kept, resume.chosen)
    for protocol in [p for p in task.protocols if p not in finished]:
        watcher.begin(protocol, dict(finished), choice)
        images = _opened(task.train[protocol], terms)
        begun = resume.snapshot if resume and resume.protocol == protocol else None
        judge = None
        if validation is not None:
            judge = partial(_judge, task, validation, machine, choice, protocol)
        if begun is None and judge is not None and not finished:
            judge(net, 0)
        choice.put_into(net)  # what a snapshot does not hold is as the protocol before left it
        if begun is None and protocol == "full" and task.schedule.renew:
            augment = Augmentation(task.num_classes, task.transform, task.schedule, protocol)
            renew(net, images, augment, machine, task.seed)
        result = train(
            net,
            images,
            num_classes=task.num_classes,
            transform=task.transform,
            schedule=task.schedule,
            protocol=protocol,
            seed=task.seed,
            machine=machine,
            judge=judge,
            resume=begun,
            on_epoch=watcher.epoch,
            on_step=watcher.step,
            class_weights=None if task.class_weights is None else torch.tensor(task.class_weights),
        )
        choice.put_into(net)
        predictions = predict(net, test, task.transform, machine=machine)
        finished[protocol] = ProtocolResult(
            predictions.accuracy,
            result.trainable_params,
            round(result.seconds, 3),
            result.curve,
            choice.kept,
        )
    watcher.end(finished)
    state = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in net.state_dict().items()
    }
    return Trained(finished, predictions.predicted, state)


def _judge(
    task: TrainingTask,
    validation: ImageSource,
    machine: Machine,
    choice: Choice,
    protocol: Protocol,
    net: nn.Module,
    epoch: int,
) -> Predictions:
    """Look at the validation images, and keep the weights if they deserve it."""
    found = replace(predict(net, validation, task.transform, machine=machine), metric=task.metric)
    choice.offer(net, found, protocol, epoch)
    return found


def _opened(place: Place, terms: Terms | None) -> ImageSource:
    found = open_images(place)
    if terms is None or not isinstance(found, Streamed):
        return found
    return replace(found, decoders=terms.decoders, task_cpus=terms.task_cpus)
