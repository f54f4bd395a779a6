"""Optimizer, learning rate and running mean of the weights, by timm's factories."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo_search.core.imports import import_timm
from zoo_search.training.machine import copyable
from zoo_search.training.muon import Muon, is_matrix
from zoo_search.training.prefix import Divisible
from zoo_search.training.schedules import Protocol, Schedule


def rates_of(
    net: nn.Module, new: set[nn.Parameter], protocol: Protocol, schedule: Schedule
) -> Tensor:
    """Return the highest rate of each parameter that learns, float64, in their order.

    It may depend on the size of the weights, and so on when it is asked for.
    """
    free = set[nn.Parameter]() if protocol == "frozen" else _in_blocks_with_norms(net) - new
    found = []
    for parameter in net.parameters():
        if parameter.requires_grad:
            peak, limit = schedule.lr(protocol), schedule.limit(protocol)
            if protocol == "full" and parameter not in new:
                peak *= schedule.block_lr
            if limit is not None and parameter.ndim > 1 and parameter not in free:
                size = float(parameter.detach().square().mean().sqrt())
                peak = min(peak, limit * size) if size > 0 else peak
            found.append(peak)
    return torch.tensor(found, dtype=torch.float64)


def _in_blocks_with_norms(net: nn.Module) -> set[nn.Parameter]:
    """Return all parameters of blocks that hold a batch norm; a network without blocks is one.

    What a batch norm follows may grow or shrink, and nothing changes.
    """
    blocks = net.blocks if isinstance(net, Divisible) else [net]
    return {
        parameter
        for block in blocks
        if any(isinstance(module, _BatchNorm) for module in block.modules())
        for parameter in block.parameters()
    }


def make_optimizer(
    net: nn.Module, rates: Tensor, protocol: Protocol, schedule: Schedule
) -> torch.optim.Optimizer:
    """Return AdamW, or Muon, with a group for each rate of :func:`rates_of`, decayed or not.

    AdamW is fused where torch has a fused kernel for the device.
    """
    import_timm()
    from timm.optim._optim_factory import create_optimizer_v2

    groups: dict[tuple[object, ...], list[nn.Parameter]] = {}
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for parameter, peak in zip(learning, rates.tolist(), strict=True):
        turned = schedule.orthogonal and is_matrix(parameter)
        key = peak, parameter.ndim > 1, parameter.shape if turned else None
        groups.setdefault(key, []).append(parameter)
    made: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": peak,
            "weight_decay": schedule.decay(protocol) if decayed else 0.0,
            "orthogonal": shape is not None,
        }
        for (peak, decayed, shape), parameters in groups.items()
    ]
    options: dict[str, Any] = {"lr": schedule.lr(protocol), "betas": (0.9, schedule.beta2)}
    if schedule.orthogonal:
        return Muon(made, **options)
    device = next(net.parameters()).device.type
    return create_optimizer_v2(made, opt="adamw", fused=device in ("cpu", "cuda"), **options)


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

    with copyable(net):
        return ModelEmaV3(net, decay=schedule.ema, use_warmup=True)
