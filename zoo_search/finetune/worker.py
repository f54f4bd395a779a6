"""What one Ray Train worker does: fine-tune the networks of its lane, one after the other.

A lane is one worker or several that train one network together. A finished network is put into the
run directory; checkpoints hold the one in work.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from zoo_search.cluster import Pulse, beater
from zoo_search.core.errors import UserError
from zoo_search.core.imports import import_timm
from zoo_search.core.store import RunStore
from zoo_search.finetune.checkpoints import Checkpoints, TaskCheckpoint
from zoo_search.finetune.entries import ProtocolResult
from zoo_search.finetune.images.places import open_images
from zoo_search.finetune.images.streaming import Streamed
from zoo_search.finetune.lanes import share_out
from zoo_search.finetune.logs import EpochLog
from zoo_search.finetune.race import NOBODY, Race
from zoo_search.finetune.tasks import TrainingTask
from zoo_search.finetune.trained import (
    Failure,
    Trained,
    failure_of,
    folder_of,
    keep_failure,
    keep_parts,
    keep_trained,
    parts_of,
)
from zoo_search.finetune.watching import Reporter, Watcher
from zoo_search.networks.renewal import renew
from zoo_search.training.accuracy import Predictions, predict
from zoo_search.training.augment import Augmentation
from zoo_search.training.choice import Choice
from zoo_search.training.machine import ALONE, Machine, Workers, is_out_of_memory, resolved
from zoo_search.training.precision import precision_on
from zoo_search.training.train import DivergedError, train

if TYPE_CHECKING:
    from zoo_search.finetune.images.places import Place
    from zoo_search.networks.network import ReassembledNet
    from zoo_search.training.images import ImageSource
    from zoo_search.training.schedules import Protocol

_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Lanes:
    """What all workers are given.

    Attributes:
        tasks: Of each lane, in order.
        store: URL of the run directory.
        width: Workers of a lane; None: all that there are, however many.
        threads: That a worker computes with.
        decoders: Tasks of Ray Data that decode for a worker at once.
        task_cpus: CPUs of Ray's account that each of them holds.
        gpus: That a worker has; below 1, it takes no more than that of a GPU's memory.
        precision: As in the run file.
        pulse: Hears of steps, and of what was changed to go on.
        run: Name of the job, for logs.
        log: Services that curves go to, beside TensorBoard.
        race: Says which tasks come after these.
        epoch_seconds: At the end of an epoch a checkpoint is written when the last one is so old.
        step_seconds: Likewise at the end of a step.
    """

    tasks: Sequence[Sequence[TrainingTask]]
    store: str
    width: int | None
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
    race: Race = NOBODY
    epoch_seconds: float = 0.0
    step_seconds: float = 0.0


def run_lane(lanes: Lanes) -> None:
    """Fine-tune those tasks of this worker's lane that have no end yet; runs inside Ray Train.

    When those of all lanes have ended, the trainings that the race goes on with are shared out.
    """
    import ray.train.torch

    import_timm()  # the quick way, before the networks' own modules would import it
    torch.set_num_threads(lanes.threads)
    store = RunStore(lanes.store)
    lane, workers = _place(lanes.width)
    device = ray.train.torch.get_device()
    if 0 < lanes.gpus < 1:
        torch.cuda.set_per_process_memory_fraction(lanes.gpus, device)
    for task in lanes.tasks[lane]:
        _unless_ended(task, store, lanes, workers, device)
    while (further := lanes.race.further(store)) is None:
        time.sleep(_LOOK_SECONDS)  # another lane is at one of the first
    for task in share_out(further, len(lanes.tasks))[lane]:
        _unless_ended(task, store, lanes, workers, device)


def _unless_ended(
    task: TrainingTask, store: RunStore, lanes: Lanes, workers: Workers, device: torch.device
) -> None:
    ended = store.exists(folder_of(task.key)) or failure_of(store, task.key) is not None
    if not workers.say(ended):
        _bring_to_end(task, store, lanes, workers, device)


def _bring_to_end(
    task: TrainingTask, store: RunStore, lanes: Lanes, workers: Workers, device: torch.device
) -> None:
    """Fine-tune one network, and put it, or why there is none, into the run directory.

    What a user has to mend ends this task alone: to try again would not help.
    """
    import ray

    tell, share = partial(_tell, lanes.pulse, task.name), beater(lanes.pulse, task.name)
    checkpoints = Checkpoints(store, task.key)
    # One worker looks, so that all go on from the same place.
    first = workers.rank == 0
    parts, name = workers.say(
        (parts_of(store, task.key) or lanes.parts, checkpoints.newest()) if first else None
    ) or (1, None)
    machine = Machine(
        device,
        precision_on(device, resolved(lanes.precision, device), tell),
        lanes.compile,
        lanes.sync_bn,
        parts,
        workers=workers,
        tell=tell,
        beat=partial(share, None),
        short=partial(keep_parts, store, task.key),
    )
    net, begun = ray.get(task.net), None if name is None else checkpoints.read(name)
    try:
        if workers.rank:
            tune(task, net, machine, Watcher(), begun, lanes)
        else:
            facts = {**vars(task.schedule), "recipe": str(task.recipe), "seed": task.seed}
            with EpochLog(store, lanes.log, lanes.run, task.key, task.name, facts) as log:
                seconds = lanes.epoch_seconds, lanes.step_seconds
                reporter = Reporter(task, checkpoints, log, share, *seconds)
                trained = tune(task, net, machine, reporter, begun, lanes)
            keep_trained(store, task.key, trained)
            checkpoints.clear()
    except UserError as error:
        diverged = isinstance(error, DivergedError)  # on all workers of the lane at once
        if workers.rank == 0 or not diverged:
            tell(str(error))
            if not keep_failure(store, task.key, Failure(str(error), diverged)):
                raise  # the other lanes would wait for this task
        if workers.size > 1 and not diverged:
            raise  # the others wait for this one: Ray Train starts all of them anew
        return
    except RuntimeError as error:
        if is_out_of_memory(error) and workers.size > 1:
            keep_parts(store, task.key, 2 * machine.parts)
            tell(f"no room on the device: each share goes in {2 * machine.parts} parts from now on")
        raise


def _place(width: int | None) -> tuple[int, Workers]:
    """Return the number of this worker's lane, and its place there."""
    import ray.train

    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    width = width or size
    lane, place = divmod(rank, width)
    if width == 1:
        return lane, ALONE
    # Every worker has a part in the making of every group.
    groups = [
        torch.distributed.new_group(list(range(first, first + width)))
        for first in range(0, size - width + 1, width)
    ]
    return lane, Workers(place, width, groups[lane])


def _tell(pulse: Pulse, name: str, line: str) -> None:
    pulse.tell.remote(f"{name}: {line}")


def tune(
    task: TrainingTask,
    net: ReassembledNet,
    machine: Machine,
    watcher: Watcher,
    resume: TaskCheckpoint | None = None,
    lanes: Lanes | None = None,
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
    choice, test = Choice(), _opened(task.test, lanes)
    validation = None if task.validation is None else _opened(task.validation, lanes)
    if resume:
        choice.resume(resume.kept, resume.chosen)
    for protocol in [p for p in task.protocols if p not in finished]:
        watcher.begin(protocol, dict(finished), choice)
        images = _opened(task.train[protocol], lanes)
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
    found = predict(net, validation, task.transform, machine=machine)
    choice.offer(net, found, protocol, epoch)
    return found


def _opened(place: Place, lanes: Lanes | None) -> ImageSource:
    found = open_images(place)
    if lanes is None or not isinstance(found, Streamed):
        return found
    return replace(found, decoders=lanes.decoders, task_cpus=lanes.task_cpus)
