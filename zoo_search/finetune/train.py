"""The training loop of the two protocols: plain PyTorch on images in memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_search.errors import UserError
from zoo_search.finetune.augment import Transform, batches
from zoo_search.finetune.optimize import make_optimizer, seeded, set_rate
from zoo_search.finetune.recipes import Protocol, TrainRecipe
from zoo_search.finetune.snapshot import NEW, Epoch, Snapshot, restore, tensors_of

__all__ = ["Epoch", "Snapshot", "TrainResult", "accuracy", "train", "trainable"]


@dataclass(frozen=True)
class TrainResult:
    """What a protocol gave.

    Attributes:
        curve: All epochs.
        trainable_params: Parameters that learned.
        seconds: Wall clock of all epochs.
    """

    curve: tuple[Epoch, ...]
    trainable_params: int
    seconds: float


def train(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    transform: Transform,
    recipe: TrainRecipe,
    protocol: Protocol,
    seed: int = 0,
    resume: Snapshot | None = None,
    on_epoch: Callable[[Epoch, Callable[[], Snapshot]], None] | None = None,
) -> TrainResult:
    """Train ``net`` in place by one protocol of DeRy section 4, and leave it in eval mode.

    In FROZEN-TUNING only ``net.stitches`` and ``net.head`` learn; everything else keeps its
    parameters and stays in eval mode, batch-norm statistics included. In FULL-TUNING everything
    learns. What an epoch draws depends on ``seed``, the protocol and the number of the epoch
    alone, so a training that goes on from a snapshot ends as if it had never stopped.

    Args:
        net: Logits ``[B, num_classes]`` for normalised images ``[B, 3, H, W]``; has the submodules
            ``stitches`` and ``head``.
        images: uint8 ``[N, 3, H, W]``, on the device of ``net`` or on the CPU.
        labels: int64 ``[N]``.
        num_classes: Number of classes.
        transform: Normalisation of ``net``.
        recipe: How to train.
        protocol: ``"frozen"`` or ``"full"``.
        seed: Seed of order and augmentation.
        resume: Where to go on; ``net`` then needs to be as it was before the protocol began.
        on_epoch: Called after each epoch with its record and a function that makes a snapshot.

    Raises:
        UserError: If the loss is no longer finite.
    """
    new = trainable(net, protocol)
    optimizer = make_optimizer(net, new, protocol, recipe)
    curve: list[Epoch] = []
    if resume is not None:
        curve = list(resume.curve)
        restore(net, optimizer, resume.tensors)
    total = recipe.epochs(protocol)
    for epoch in range(len(curve) + 1, total + 1):
        _training_mode(net, protocol)
        with seeded(seed, protocol, epoch):
            point = _epoch(
                net, batches(images, labels, num_classes, transform, recipe), optimizer, recipe,
                start=(epoch - 1) / total, share=1 / total, count=len(images), number=epoch,
            )  # fmt: skip
        curve.append(point)
        if on_epoch is not None:
            done = tuple(curve)
            on_epoch(point, lambda done=done: Snapshot(done, tensors_of(net, optimizer, protocol)))  # type: ignore[misc]
    net.eval().requires_grad_(True)
    count = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    return TrainResult(tuple(curve), count, sum(point.seconds for point in curve))


def trainable(net: nn.Module, protocol: Protocol) -> set[nn.Parameter]:
    """Let the parameters of a protocol require gradients; return those of stitches and head."""
    new = {p for name in NEW for p in net.get_submodule(name).parameters()}
    old = {p for name, child in net.named_children() if name not in NEW for p in child.parameters()}
    for parameter in net.parameters():
        parameter.requires_grad_(protocol == "full" or parameter not in old)
    return new - old


@torch.inference_mode()
def accuracy(
    net: nn.Module, images: Tensor, labels: Tensor, transform: Transform, batch_size: int = 128
) -> float:
    """Return the share of images (uint8 ``[N, 3, H, W]``) that get their label (int64 ``[N]``)."""
    net.eval()
    device = next(net.parameters()).device
    right = 0
    for x, y in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True):
        logits = net(_layout(transform.normalize(x.to(device))))
        right += int((logits.argmax(dim=1).cpu() == y.cpu()).sum())
    return right / len(images)


def _epoch(
    net: nn.Module,
    data: Iterator[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    recipe: TrainRecipe,
    *,
    start: float,
    share: float,
    count: int,
    number: int,
) -> Epoch:
    """Run one epoch that takes the progress of the training from ``start`` to ``start + share``."""
    device = next(net.parameters()).device
    learning = [p for group in optimizer.param_groups for p in group["params"]]
    began, seen, loss_sum, right = time.perf_counter(), 0, 0.0, 0
    for images, targets in data:
        x, y = _layout(images.to(device)), targets.to(device)
        set_rate(optimizer, start + share * seen / count, recipe.warmup)
        logits = net(x)
        loss = F.cross_entropy(logits, y)
        value = loss.item()
        if not math.isfinite(value):
            raise UserError(
                f"Fine-tuning diverged: the loss is {value} in epoch {number}. Lower finetune.lr "
                f"(the recipe '{recipe.name}' starts from {optimizer.param_groups[0]['peak']:g})."
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learning, recipe.max_grad_norm)
        optimizer.step()
        seen += len(x)
        loss_sum += value * len(x)
        right += int((logits.argmax(dim=1) == y.argmax(dim=1)).sum())
    seconds = time.perf_counter() - began
    return Epoch(number, loss_sum / seen, right / seen, round(seconds, 3))


def _training_mode(net: nn.Module, protocol: Protocol) -> None:
    net.train(protocol == "full")
    if protocol == "frozen":
        for name in NEW:
            net.get_submodule(name).train()


def _layout(x: Tensor) -> Tensor:
    """Channels last: convolutions then run up to twice as fast on CPUs."""
    return x.contiguous(memory_format=torch.channels_last)
