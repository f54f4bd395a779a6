"""Points of a training curve, and all that a training needs to go on from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo_search.finetune.recipes import Protocol

__all__ = ["NEW", "Epoch", "Snapshot", "restore", "tensors_of"]

NEW = ("stitches", "head")
"""The submodules that FROZEN-TUNING trains (DeRy section 4)."""


@dataclass(frozen=True)
class Epoch:
    """One point of a training curve.

    Attributes:
        epoch: Number of the epoch, from 1.
        train_loss: Mean loss over the epoch, on augmented images.
        train_accuracy: Share of augmented images that got their (strongest) label.
        seconds: Wall clock.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the point as a plain dict, as it stands in ``winners.json``."""
        return asdict(self)


@dataclass(frozen=True)
class Snapshot:
    """All that a training needs to go on from the end of an epoch.

    Attributes:
        curve: The epochs so far.
        tensors: What may have changed: ``model.*`` (without the frozen blocks) and ``optimizer.*``.
    """

    curve: tuple[Epoch, ...]
    tensors: Mapping[str, Tensor]


def _changing(net: nn.Module, protocol: Protocol) -> dict[str, Tensor]:
    """Return the part of the state that a protocol may change."""
    state: dict[str, Tensor] = net.state_dict()
    if protocol == "full":
        return state
    return {key: value for key, value in state.items() if key.split(".", 1)[0] in NEW}


def tensors_of(
    net: nn.Module, optimizer: torch.optim.Optimizer, protocol: Protocol
) -> dict[str, Tensor]:
    """Return copies, on the CPU, of all tensors that the training of a protocol may change."""
    tensors = {f"model.{key}": value for key, value in _changing(net, protocol).items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    return {key: value.detach().cpu().clone() for key, value in tensors.items()}


def restore(
    net: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put back what :func:`tensors_of` gave.

    Raises:
        ValueError: If the tensors are those of another network.
    """
    model = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    found = net.load_state_dict(model, strict=False)
    if found.unexpected_keys:
        raise ValueError(f"The snapshot is of another network: {found.unexpected_keys[:5]}.")
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
