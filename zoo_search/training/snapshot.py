"""Points of a training curve, and all that a training needs to go on from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo_search.training.schedules import Protocol

NEW = ("stitches", "head")
"""The submodules that FROZEN-TUNING trains (DeRy section 4)."""


@dataclass(frozen=True)
class Epoch:
    """One point of a training curve, as it stands in ``winners.json``.

    Attributes:
        epoch: Number of the epoch, from 1.
        train_loss: Mean loss over the epoch, on augmented images.
        train_accuracy: Share of augmented images that got their (strongest) label.
        seconds: Wall clock.
        rate: Highest learning rate of a group of parameters at the end.
        images_per_second: Of all workers together.
        device_memory: Most bytes that were allocated on a GPU; 0 on a CPU.
        validation_accuracy: Share of the validation images that got their label, where there are
            any.
        validation_loss: Mean cross-entropy on them in nats.
        validation_score: What chooses, where that is not the accuracy.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    seconds: float
    rate: float = 0.0
    images_per_second: float = 0.0
    device_memory: int = 0
    validation_accuracy: float | None = None
    validation_loss: float | None = None
    validation_score: float | None = None


@dataclass(frozen=True)
class Begun:
    """How far an epoch is: steps, images seen, and sums over these images."""

    steps: int = 0
    seen: int = 0
    loss: float = 0.0
    right: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """All that a training needs to go on from the end of a step."""

    curve: tuple[Epoch, ...]
    tensors: Mapping[str, Tensor]
    """What may have changed: ``model.*`` without frozen blocks, ``ema.*``, ``optimizer.*``; and
    ``rates``, the highest rate of each parameter that learns."""
    begun: Begun = Begun()
    """The epoch after those of the curve."""


def tensors_of(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    protocol: Protocol,
    ema: nn.Module | None = None,
) -> dict[str, Tensor]:
    """Return copies, on the CPU, of all tensors that the training of a protocol may change."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("model", net), ("ema", ema)):
        if module is not None:
            tensors |= {
                f"{prefix}.{key}": value
                for key, value in module.state_dict().items()
                if protocol == "full" or key.split(".", 1)[0] in NEW
            }
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    return {key: value.detach().cpu().clone() for key, value in tensors.items()}


def restore(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    ema: nn.Module | None = None,
) -> None:
    """Put back what :func:`tensors_of` gave.

    Raises:
        ValueError: If the tensors are those of another network.
    """
    for prefix, module in (("model.", net), ("ema.", ema)):
        if module is None:
            continue
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        found = module.load_state_dict(state, strict=False)
        if found.unexpected_keys:
            raise ValueError(f"The snapshot is of another network: {found.unexpected_keys[:5]}.")
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape:
                # Fused kernels walk through memory: a moment has to lie as its parameter does.
                state[name] = torch.empty_like(parameter).copy_(value)
