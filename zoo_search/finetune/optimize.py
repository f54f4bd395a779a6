"""Optimizer, learning rate and random states of a training."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from zoo_search.finetune.recipes import Protocol, TrainRecipe

__all__ = ["make_optimizer", "seeded", "set_rate"]


def make_optimizer(
    net: nn.Module, new: set[nn.Parameter], protocol: Protocol, recipe: TrainRecipe
) -> torch.optim.AdamW:
    """Return AdamW with one group for each learning rate, decayed or not."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in net.parameters():
        if parameter.requires_grad:
            peak = _peak(parameter, parameter in new, protocol, recipe)
            groups.setdefault((peak, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "peak": peak,
                "weight_decay": recipe.weight_decay if decayed else 0.0,
            }
            for (peak, decayed), parameters in groups.items()
        ],
        lr=recipe.lr(protocol),
    )


def _peak(parameter: nn.Parameter, new: bool, protocol: Protocol, recipe: TrainRecipe) -> float:
    """Return the highest rate of a parameter."""
    peak = recipe.lr(protocol)
    if protocol == "full":
        return peak if new else peak * recipe.block_lr
    if recipe.step_limit is None or parameter.ndim < 2:
        return peak
    size = float(parameter.detach().square().mean().sqrt())
    return min(peak, recipe.step_limit * size) if size > 0 else peak


def set_rate(optimizer: torch.optim.Optimizer, progress: float, warmup: float) -> None:
    """Linear warm-up, then half a cosine down to zero; ``progress`` is in [0, 1)."""
    if progress < warmup:
        factor = (progress + 0.01) / (warmup + 0.01)
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


@contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """Seed every global random state from ``parts``; put the states back afterwards."""
    digest = hashlib.sha256(" ".join(map(str, parts)).encode()).digest()
    number = int.from_bytes(digest[:4], "big")
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
