"""The training loop, of the two protocols and from scratch: PyTorch on any source of images."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_search.core.errors import UserError
from zoo_search.core.identity import numpy_generator, seeded
from zoo_search.training.augment import Augmentation
from zoo_search.training.images import ImageSource, InMemory
from zoo_search.training.machine import HERE, Machine, channels_last, device_of, is_out_of_memory
from zoo_search.training.optimize import Rate, make_optimizer, rates_of, running_mean
from zoo_search.training.order import Ints, share, steps_of
from zoo_search.training.prefix import Divisible, Rest, features_of, frozen_blocks
from zoo_search.training.schedules import Protocol, Schedule
from zoo_search.training.snapshot import NEW, Begun, Epoch, Snapshot, restore, tensors_of

if TYPE_CHECKING:
    from zoo_search.data.preprocess import Preprocess
    from zoo_search.training.accuracy import Predictions

_CHECK_EVERY = 20
"""Steps between two looks at the loss on a GPU, each of which waits for it."""


class DivergedError(UserError):
    """The loss of a training is no longer finite."""


@dataclass(frozen=True)
class TrainResult:
    """What a protocol gave: all epochs, how many parameters learned, and the wall clock."""

    curve: tuple[Epoch, ...]
    trainable_params: int
    seconds: float


def train(
    net: nn.Module,
    images: ImageSource,
    *,
    num_classes: int,
    transform: Preprocess,
    schedule: Schedule,
    protocol: Protocol,
    seed: int = 0,
    machine: Machine = HERE,
    judge: Callable[[nn.Module, int], Predictions] | None = None,
    resume: Snapshot | None = None,
    on_epoch: Callable[[Epoch, Callable[[], Snapshot]], None] = lambda point, snapshot: None,
    on_step: Callable[[float, Callable[[], Snapshot]], None] = lambda share, snapshot: None,
    class_weights: Tensor | None = None,
    cure: str = "Lower finetune.lr",
) -> TrainResult:
    """Train ``net`` in place by one protocol of DeRy section 4, and leave it in eval mode.

    In FROZEN-TUNING only ``net.stitches`` and ``net.head`` learn; everything else keeps its
    parameters and stays in eval mode, batch-norm statistics included. In FULL-TUNING everything
    learns. What a step draws depends on ``seed``, the protocol, the epoch and the step alone, so a
    training that goes on from a snapshot ends as if it had never stopped. On several workers, or
    in parts, each step has the same images and the result is the same to rounding, but where batch
    norms take the statistics of a share or a part, or the network draws (dropout).

    Args:
        net: Logits ``[B, num_classes]`` for normalised images ``[B, 3, H, W]``; for FROZEN-TUNING
            with the submodules ``stitches`` and ``head``.
        images: Of all workers; each reads its share.
        num_classes: Classes of the targets; labels are below.
        transform: Normalisation of ``net``.
        schedule: How to train; batch size and augmentation, too.
        protocol: ``"frozen"`` or ``"full"``.
        seed: Of order and augmentation.
        machine: The device, and the workers that train together.
        judge: Is given, after each epoch, the network with the weights that the protocol would end
            with now, and the number of the epoch; it returns what that says of validation images,
            for the curve.
        resume: Where to go on; what does not learn in ``net`` needs to be as it was.
        on_epoch: Called after each epoch with its record and a function that makes a snapshot.
        on_step: Called after each step with the share of all epochs that is done and such a
            function.
        class_weights: Float32 ``[num_classes]``: what the cross-entropy multiplies the probability
            of a class by (``weight`` of torch's ``cross_entropy``). The loss of a step stays a mean
            over its images.
        cure: What to do if the training diverges, for the message.

    Raises:
        DivergedError: If the loss is no longer finite.
        UserError: If a single image of a step is too much for the device.
        torch.OutOfMemoryError: If a share is too much for the device and there are other workers,
            who would wait for this one: :attr:`Machine.parts` has to grow on all of them.
    """
    rates = None if resume is None else resume.tensors["rates"]
    run = _Training(
        net, images, num_classes, transform, schedule, protocol, seed, machine, class_weights,
        cure, rates,
    )  # fmt: skip
    curve, begun = run.start(resume)
    total = schedule.epochs(protocol)
    for number in range(len(curve) + 1, total + 1):
        point = run.epoch(number, tuple(curve), begun, on_step)
        if judge is not None:
            seen = judge(run.averaged(), number)
            point = replace(
                point,
                validation_accuracy=seen.accuracy,
                validation_loss=seen.loss,
                validation_score=seen.score,
            )
        curve.append(point)
        begun = Begun()
        on_epoch(point, lambda done=tuple(curve): Snapshot(done, run.tensors()))  # type: ignore[misc]
    run.end()
    seconds = sum(point.seconds for point in curve)
    return TrainResult(tuple(curve), run.trainable_params, seconds)


class _Training:
    """A network while a protocol trains it."""

    def __init__(
        self,
        net: nn.Module,
        images: ImageSource,
        num_classes: int,
        transform: Preprocess,
        schedule: Schedule,
        protocol: Protocol,
        seed: int,
        machine: Machine,
        class_weights: Tensor | None,
        cure: str,
        rates: Tensor | None,
    ) -> None:
        self.net, self.schedule, self.protocol, self.seed = net, schedule, protocol, seed
        self.machine, self.parts, self.cure = machine, machine.parts, cure
        self.made = 0  # steps of the protocol
        self.device = device_of(net)
        self.weights = None if class_weights is None else class_weights.to(self.device)
        self.augment = Augmentation(num_classes, transform, schedule, protocol)
        steps = steps_of(np.arange(len(images)), schedule.batch_size, even=self.augment.pairs)
        if not steps:
            raise UserError("Mixup and CutMix mix pairs of images, and there is a single one.")
        # A place and its mirror image go to one worker: a step has half as many shares as images.
        if 1 < machine.workers.size > min(map(len, steps)) // 2:
            raise UserError(
                f"{len(images)} training images in steps of {schedule.batch_size} are too few for "
                f"{machine.workers.size} workers, each of which takes two of every step. Lower "
                "finetune.workers, or raise finetune.batch_size."
            )
        new = trainable(net, protocol)
        if schedule.augmentation(protocol) == "rand_augment" and isinstance(images, InMemory):
            raise ValueError("RandAugment is for pictures of their own size: stream them")
        self.images, called = self._without_prefix(images, transform)
        self.module = machine.wrap(called)
        self.rates = rates_of(net, new, protocol, schedule) if rates is None else rates
        self.optimizer = make_optimizer(net, self.rates, protocol, schedule)
        self.learning = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.ema = running_mean(net, schedule)
        self.rate = Rate(self.optimizer, schedule.epochs(protocol) * len(steps), schedule.warmup)

    @property
    def trainable_params(self) -> int:
        return sum(parameter.numel() for parameter in self.learning)

    def _without_prefix(
        self, images: ImageSource, transform: Preprocess
    ) -> tuple[ImageSource, nn.Module]:
        """Return what is read and what is called: where that is possible, after the frozen blocks.

        Images that are streamed are too many to keep what comes out of the blocks for each.
        """
        still = self.protocol == "frozen" and self.schedule.augmentation("frozen") == "none"
        mixed = self.augment.pairs  # images are mixed before the blocks
        if not still or mixed or not isinstance(images, InMemory):
            return images, self.net
        if not isinstance(self.net, Divisible):
            return images, self.net
        _training_mode(self.net, self.protocol)
        blocks = frozen_blocks(self.net)
        found = features_of(self.net, blocks, images, transform.normalize, self.machine)
        return (images, self.net) if found is None else (found, Rest(self.net, blocks))

    def start(self, resume: Snapshot | None) -> tuple[list[Epoch], Begun]:
        if resume is None:
            return [], Begun()
        restore(self.net, self.optimizer, resume.tensors, getattr(self.ema, "module", None))
        return list(resume.curve), resume.begun

    def tensors(self) -> dict[str, Tensor]:
        ema = getattr(self.ema, "module", None)
        found = tensors_of(self.net, self.optimizer, self.protocol, ema)
        return {**found, "rates": self.rates.clone()}

    def averaged(self) -> nn.Module:
        """Return the network with the weights that the protocol would end with now."""
        return self.net if self.ema is None else self.ema.module  # type: ignore[return-value]

    def end(self) -> None:
        if self.ema is not None:
            self.net.load_state_dict(self.averaged().state_dict())
        self.net.eval().requires_grad_(True)

    def epoch(
        self,
        number: int,
        curve: tuple[Epoch, ...],
        begun: Begun,
        on_step: Callable[[float, Callable[[], Snapshot]], None],
    ) -> Epoch:
        """Run an epoch, or the rest of one, and return its record."""
        draw = f"{self.seed} {self.protocol} {number}"
        order = self.images.order(numpy_generator(draw))
        steps = steps_of(order, self.schedule.batch_size, even=self.augment.pairs)
        sums = torch.tensor([begun.loss, begun.right], dtype=torch.float64, device=self.device)
        seen, before, began = begun.seen, begun.seconds, time.perf_counter()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        _training_mode(self.net, self.protocol)
        for step, (places, x, y) in enumerate(self._read(steps, begun.steps, draw), begun.steps):
            self.rate.set((number - 1) * len(steps) + step)
            self.made = (number - 1) * len(steps) + step + 1
            with seeded(draw, step):
                size = len(steps[step])
                images, targets = self.augment(x, y, places, size)
                if self.machine.workers.size > 1:  # what the network draws, each draws its own
                    torch.manual_seed(torch.initial_seed() + self.machine.workers.rank)
                sums += self.machine.workers.add_up(self._step(images, targets, size))
            seen += size
            if self.device.type == "cpu" or step % _CHECK_EVERY == 0 or step == len(steps) - 1:
                self._check(float(sums[0]) / seen, number)

            def snapshot(done: int = step + 1, seen: int = seen, sums: Tensor = sums) -> Snapshot:
                loss, right = sums.tolist()
                held = Begun(done, seen, loss, right, before + time.perf_counter() - began)
                return Snapshot(curve, self.tensors(), held)

            done = (number - 1 + (step + 1) / len(steps)) / self.schedule.epochs(self.protocol)
            on_step(done, snapshot)
        self.rate.set(number * len(steps) - 1)
        self.machine.workers.agree(self.net)
        if self.ema is not None:
            self.machine.workers.agree(self.ema)
        loss, right = (sums / seen).tolist()
        seconds = before + time.perf_counter() - began
        memory = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0
        return Epoch(
            number,
            loss,
            right,
            round(seconds, 3),
            rate=self.rate.now,
            images_per_second=round(seen / max(seconds, 1e-9), 2),
            device_memory=memory,
        )

    def _read(
        self, steps: list[Ints], first: int, draw: str
    ) -> Iterator[tuple[Ints, Tensor, Tensor]]:
        """Yield the places in its step of each of this worker's shares, its images and labels."""
        workers = self.machine.workers
        places = [share(len(step), workers.rank, workers.size) for step in steps[first:]]
        wanted = [step[mine] for step, mine in zip(steps[first:], places, strict=True)]
        held = None
        for mine, (x, y) in zip(places, self.images.read(wanted, draw), strict=True):
            coming = mine, self._move(x), self._move(y)
            if self.device.type == "cpu":
                yield coming
                continue
            # On a GPU the next share is on its way while this one is computed with.
            if held is not None:
                yield held
            held = coming
        if held is not None:
            yield held

    def _move(self, x: Tensor) -> Tensor:
        if self.device.type != "cuda":
            return x.to(self.device)
        return x.pin_memory().to(self.device, non_blocking=True)

    def _step(self, images: Tensor, targets: Tensor, size: int) -> Tensor:
        """Make one step; return the sum of the losses of this worker's images, and the right ones.

        Where the device has no room, the share goes through the network in twice as many parts.
        """
        images = channels_last(images)
        while True:
            try:
                found = self._gradients(images, targets, size)
                nn.utils.clip_grad_norm_(self.learning, self.schedule.max_grad_norm)
                self.optimizer.step()
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.parts >= len(images):
                    raise UserError(
                        "The device has no room for a single image of shape "
                        f"{tuple(images.shape[1:])}. Lower input_size, or take a device with more "
                        "memory."
                    ) from error
                if self.machine.workers.size > 1:
                    raise
            self.parts = min(2 * self.parts, len(images))
            self.optimizer.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.machine.short(self.parts)
            self.machine.tell(
                f"the device has no room for as many images at once: each step now goes through "
                f"the network in {self.parts} parts, whose gradients are added up, so that batch "
                "and rate stay as they are"
            )
        if self.ema is not None:
            self.ema.update(self.net, self.made)  # type: ignore[operator]
        return found

    def _gradients(self, images: Tensor, targets: Tensor, size: int) -> Tensor:
        """Leave the gradient of the mean loss of a step, over all workers, in the parameters."""
        self.optimizer.zero_grad(set_to_none=True)
        workers = self.machine.workers.size
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        count = min(self.parts, len(images))
        parts = list(zip(*(t.tensor_split(count) for t in (images, targets)), strict=True))
        for place, (x, y) in enumerate(parts):
            last = place == len(parts) - 1
            held = self.module.no_sync() if workers > 1 and not last else nullcontext()  # type: ignore[operator]
            with held:
                with self.machine.autocast(self.device):
                    logits = self.module(x).float()
                loss = F.cross_entropy(logits, y, weight=self.weights, reduction="sum")
                # DDP takes the mean over the workers, a step's loss is the mean over its images.
                (loss * (workers / size)).backward()  # type: ignore[no-untyped-call]
            sums[0] += loss.detach()
            sums[1] += (logits.argmax(dim=1) == y.argmax(dim=1)).sum()
        return sums

    def _check(self, loss: float, number: int) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                f"The training diverged: the loss is {loss} in epoch {number}. {self.cure} (the "
                f"schedule '{self.schedule.name}' starts from "
                f"{self.schedule.lr(self.protocol):g})."
            )


def trainable(net: nn.Module, protocol: Protocol) -> set[nn.Parameter]:
    """Let the parameters of a protocol require gradients; return those of stitches and head."""
    children = dict(net.named_children())
    new = {p for name in NEW if name in children for p in children[name].parameters()}
    old = {p for name, child in children.items() if name not in NEW for p in child.parameters()}
    for parameter in net.parameters():
        parameter.requires_grad_(protocol == "full" or parameter not in old)
    return new - old


def _training_mode(net: nn.Module, protocol: Protocol) -> None:
    net.train(protocol == "full")
    if protocol == "frozen":
        for name in NEW:
            net.get_submodule(name).train()
