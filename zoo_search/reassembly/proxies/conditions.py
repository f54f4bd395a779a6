"""Under which conditions a score was taken: what has to be equal for two scores to be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["SETTINGS", "Setting", "conditions"]


@dataclass(frozen=True)
class Setting:
    """What a proxy looks at.

    Attributes:
        hooks: The units or layers that the score is read from.
        images: ``"batches"`` drawn by seed, ``"all"`` different images of the target, or
            ``"none"``.
        precision: Of its forward pass where that is fixed (``""``: it has none); None where it is
            the network's.
    """

    hooks: str
    images: Literal["batches", "all", "none"] = "batches"
    precision: str | None = None


_PARAMETERS = "all parameters"
_POOLED = "features at the last cut, pooled"

SETTINGS: dict[str, Setting] = {
    "naswot": Setting(
        "signs of the inputs of ReLU, ReLU6, LeakyReLU, PReLU, ELU, GELU, SiLU, Hardswish, Mish"
    ),
    "naswot_dery": Setting(
        "signs of the outputs of ReLU, ReLU6, LeakyReLU, GELU, SiLU, Hardswish, Linear, Dropout"
    ),
    "probe": Setting(_POOLED, "all"),
    "logme": Setting(_POOLED, "all"),
    "leep": Setting("logits of the head of the last block's model", "all"),
    "grad_norm": Setting(_PARAMETERS),
    "snip": Setting(_PARAMETERS),
    "fisher": Setting("outputs of Conv1d, Conv2d, Conv3d, Linear"),
    "synflow": Setting(_PARAMETERS, "none", "fp64"),
    "jacov": Setting("gradient of the sum of the logits by the image"),
    "params": Setting(_PARAMETERS, "none", ""),
    "macs": Setting("convolutions, matrix products, attention", "none", ""),
}


def conditions(
    name: str, *, batches: int, batch_size: int, seed: int, precision: str = "fp32"
) -> dict[str, Any]:
    """Return what a score was taken under, as plain JSON.

    Args:
        name: The proxy.
        batches: Batches a score.
        batch_size: Images a batch.
        seed: Of the batches, random stitches and head.
        precision: Of the network's forward pass.

    Returns:
        ``proxy``, ``hooks``, ``images`` (how many a score looks at, or ``"all"`` different ones),
        ``batches`` and ``batch_size`` (None where no batches are drawn), ``seed``, ``precision``
        (None where there is no forward pass).

    Raises:
        KeyError: If there is no such proxy.
    """
    setting = SETTINGS[name]
    drawn = setting.images == "batches"
    counts: dict[str, int | str] = {"batches": batches * batch_size, "all": "all", "none": 0}
    return {
        "proxy": name,
        "hooks": setting.hooks,
        "images": counts[setting.images],
        "batches": batches if drawn else None,
        "batch_size": batch_size if drawn else None,
        "seed": seed,
        "precision": (precision if setting.precision is None else setting.precision) or None,
    }
