"""What a network says of images, and how often it is right, over all workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_search.training.images import ImageSource
from zoo_search.training.machine import HERE, Machine, channels_last, device_of, is_out_of_memory
from zoo_search.training.metrics import Metric, confusion, score
from zoo_search.training.order import Ints

if TYPE_CHECKING:
    from zoo_search.data.preprocess import Preprocess

_WORST = float(np.finfo(np.float32).max)
_AT_ONCE, _AT_ONCE_CPU = 128, 32
"""Images; maps of more do not stay in the cache of a CPU."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network says of each image of a source, in the order of their positions.

    Attributes:
        labels: int64 ``[N]``; -1 for what is no image, which counts nowhere.
        predicted: Class of the highest logit, int64 ``[N]``; -1 for what is no image.
        losses: Cross-entropy of each image in nats, float64 ``[N]``; 0 for what is no image.
        metric: What chooses between predictions.
    """

    labels: Ints
    predicted: Ints
    losses: npt.NDArray[np.float64]
    metric: Metric = "accuracy"

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Which of the images got their label, ``[images]``."""
        there = self.labels >= 0
        return np.equal(self.predicted, self.labels)[there]

    @property
    def answers(self) -> tuple[Ints, Ints]:
        """Labels and predicted classes of the images, ``[images]`` each."""
        there = self.labels >= 0
        return self.labels[there], self.predicted[there]

    @property
    def score(self) -> float | None:
        """The metric that chooses, in [0, 1], where that is not the accuracy."""
        return None if self.metric == "accuracy" else score(self.metric, confusion(*self.answers))

    @property
    def accuracy(self) -> float:
        """Share of the images that got their label; 0 where there are none."""
        return float(self.right.mean()) if len(self.right) else 0.0

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the images in nats; 0 where there are none."""
        return float(self.losses.sum() / max(1, (self.labels >= 0).sum()))


def predict(
    net: nn.Module,
    images: ImageSource,
    transform: Preprocess,
    batch_size: int | None = None,
    machine: Machine = HERE,
) -> Predictions:
    """Return what ``net`` says of all images, in eval mode; each worker looks at its share.

    ``batch_size`` images are looked at together; default: what suits the device.
    """
    net.eval()
    device, workers = device_of(net), machine.workers
    batch_size = batch_size or (_AT_ONCE_CPU if device.type == "cpu" else _AT_ONCE)
    batches = np.split(np.arange(len(images)), range(batch_size, len(images), batch_size))
    mine = batches[workers.rank :: workers.size]
    # Label, class and loss of each image; those of other workers stay 0 until all are added up.
    found = torch.zeros(3, len(images), dtype=torch.float64, device=device)
    for positions, (x, y) in zip(mine, images.read(mine), strict=True):
        machine.beat()
        while True:
            try:
                found[:, positions] = _look(net, x, y, transform, batch_size, machine)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error) or batch_size == 1:
                    raise
                batch_size //= 2
    # A loss may be infinite, and files hold finite numbers only.
    labels, predicted, losses = np.nan_to_num(
        workers.add_up(found).cpu().numpy(), nan=_WORST, posinf=_WORST
    )
    return Predictions(labels.astype(np.int64), predicted.astype(np.int64), losses)


def accuracy(
    net: nn.Module,
    images: ImageSource,
    transform: Preprocess,
    batch_size: int | None = None,
    machine: Machine = HERE,
) -> float:
    """Return the share of images that get their label; arguments as for :func:`predict`."""
    return predict(net, images, transform, batch_size, machine).accuracy


@torch.inference_mode()
def _look(
    net: nn.Module, x: Tensor, y: Tensor, transform: Preprocess, at_once: int, machine: Machine
) -> Tensor:
    """Return label, class and loss of each image, float64 ``[3, B]``."""
    device, parts = device_of(net), []
    with machine.autocast(device):
        halves = torch.split(x, at_once), torch.split(y.to(device), at_once)
        for images, labels in zip(*halves, strict=True):
            logits = net(channels_last(transform.normalize(images.to(device)))).float()
            losses = F.cross_entropy(logits, labels, ignore_index=-1, reduction="none")
            classes = torch.where(labels < 0, labels, logits.argmax(dim=1))
            parts.append(torch.stack((labels.double(), classes.double(), losses.double())))
    return torch.cat(parts, dim=1)
