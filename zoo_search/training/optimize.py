"""Optimizer, learning rate and running mean of the weights, by timm's factories."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zoo_search.core.imports import import_timm
from zoo_search.training.muon import Muon, is_matrix
from zoo_search.training.schedules import Protocol, Schedule


def make_optimizer(
    net: nn.Module, new: set[nn.Parameter], protocol: Protocol, schedule: Schedule
) -> torch.optim.Optimizer:
    """Return AdamW, or Muon, with one group for each learning rate, decayed or not.

    AdamW is fused where torch has a fused kernel for the device.
    """
    import_timm()
    from timm.optim._optim_factory import create_optimizer_v2

    groups: dict[tuple[object, ...], list[nn.Parameter]] = {}
    for parameter in net.parameters():
        if parameter.requires_grad:
            peak = _peak(parameter, parameter in new, protocol, schedule)
            turned = schedule.orthogonal and is_matrix(parameter)
            key = peak, parameter.ndim > 1, parameter.shape if turned else None
            groups.setdefault(key, []).append(parameter)
    made: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": peak,
            "weight_decay": schedule.weight_decay if decayed else 0.0,
            "orthogonal": shape is not None,
        }
        for (peak, decayed, shape), parameters in groups.items()
    ]
    options: dict[str, Any] = {"lr": schedule.lr(protocol), "betas": (0.9, schedule.beta2)}
    if schedule.orthogonal:
        return Muon(made, **options)
    device = next(net.parameters()).device.type
    return create_optimizer_v2(made, opt="adamw", fused=device in ("cpu", "cuda"), **options)


def _peak(parameter: nn.Parameter, new: bool, protocol: Protocol, schedule: Schedule) -> float:
    """Return the highest rate of a parameter."""
    peak = schedule.lr(protocol)
    if protocol == "full":
        return peak if new else peak * schedule.block_lr
    if schedule.step_limit is None or parameter.ndim < 2:
        return peak
    size = float(parameter.detach().square().mean().sqrt())
    return min(peak, schedule.step_limit * size) if size > 0 else peak


class Rate:
    """The rate of every group: linear warm-up, then half a cosine down to zero (timm's)."""

    def __init__(self, optimizer: torch.optim.Optimizer, steps: int, warmup: float) -> None:
        import_timm()
        from timm.scheduler.cosine_lr import CosineLRScheduler

        self._optimizer = optimizer
        self._schedule = CosineLRScheduler(
            optimizer,
            t_initial=max(1, round(steps * (1 - warmup))),
            warmup_t=steps - max(1, round(steps * (1 - warmup))),
            warmup_prefix=True,
            t_in_epochs=False,
        )

    def set(self, step: int) -> None:
        """Set the rates of a step, which counts from 0: those of its middle, so that none is 0."""
        self._schedule.step_update(step + 0.5)  # type: ignore[arg-type]

    @property
    def now(self) -> float:
        """The highest rate of a group."""
        return max(float(group["lr"]) for group in self._optimizer.param_groups)


def running_mean(net: nn.Module, schedule: Schedule) -> nn.Module | None:
    """Return timm's running mean of a network's weights, or None where it is off.

    Its decay rises to the schedule's, so that short trainings do not end where they began.
    """
    if not schedule.ema:
        return None
    import_timm()
    from timm.utils.model_ema import ModelEmaV3

    return ModelEmaV3(net, decay=schedule.ema, use_warmup=True)
