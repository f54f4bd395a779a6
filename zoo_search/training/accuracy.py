"""How many images a network gets right, over all workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from zoo_search.training.images import ImageSource
from zoo_search.training.machine import HERE, Machine, channels_last, device_of, is_out_of_memory

if TYPE_CHECKING:
    from zoo_search.data.preprocess import Preprocess


def accuracy(
    net: nn.Module,
    images: ImageSource,
    transform: Preprocess,
    batch_size: int = 128,
    machine: Machine = HERE,
) -> float:
    """Return the share of images that get their label; each worker looks at its share of them.

    What is no image (label -1) does not count.
    """
    net.eval()
    device, workers = device_of(net), machine.workers
    batches = np.split(np.arange(len(images)), range(batch_size, len(images), batch_size))
    found = torch.zeros(2, dtype=torch.float64, device=device)
    for x, y in images.read(batches[workers.rank :: workers.size]):
        machine.beat()
        while True:
            try:
                found += _right(net, x, y, transform, batch_size, machine)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error) or batch_size == 1:
                    raise
                batch_size //= 2
    right, count = workers.add_up(found).tolist()
    return float(right / max(count, 1.0))


@torch.inference_mode()
def _right(
    net: nn.Module, x: Tensor, y: Tensor, transform: Preprocess, at_once: int, machine: Machine
) -> Tensor:
    """Return how many images get their label, and how many there are, float64 ``[2]``."""
    device = device_of(net)
    found = torch.zeros(2, dtype=torch.float64, device=device)
    with machine.autocast(device):
        halves = torch.split(x, at_once), torch.split(y.to(device), at_once)
        for images, labels in zip(*halves, strict=True):
            logits = net(channels_last(transform.normalize(images.to(device))))
            found[0] += (logits.argmax(dim=1) == labels).sum()
            found[1] += (labels >= 0).sum()
    return found
