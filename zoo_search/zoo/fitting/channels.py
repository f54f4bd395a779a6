"""Networks for images that are not RGB: grey ones are made to take RGB, others are refused.

Images are decoded as RGB, whatever they are on disk. A grey network on their luma is a network on
RGB images whose first layer weighs the channels: this is exact where the mean and the deviation
are the same for all channels, as ``Σ w_c (x_c - m) / s = (Σ w_c x_c - m) / s`` where the weights
add up to 1, and where borders are padded (with 0 on either side).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from zoo_search.core.errors import UserError
from zoo_search.linegraph.cost import meta_copy

CHANNELS = "in_chans"
"""timm's argument for the channels of the image."""

LUMA = (0.299, 0.587, 0.114)
"""Of R, G and B in the luma of ITU-R BT.601, as Pillow's mode ``L``."""

Triple = tuple[float, float, float]


def is_grey(kwargs: Mapping[str, Any]) -> bool:
    """Say whether arguments ask for a network of grey images."""
    return bool(kwargs.get(CHANNELS, 3) == 1)


def check_channels(kwargs: Mapping[str, Any], place: str) -> None:
    """Refuse arguments that ask for other images than RGB and grey.

    Raises:
        UserError: If they do; says what to do.
    """
    asked = kwargs.get(CHANNELS, 3)
    if asked not in (1, 3):
        raise UserError(
            f"{place}.kwargs.{CHANNELS} is {asked!r}, but images are decoded as RGB, so that "
            "there is nothing to fill others with. Allowed: 3, and 1 (grey: it gets the luma of "
            f"the image). Give a model of RGB images; where the first three of {asked} channels "
            "are RGB, cut its first weight to them and save it."
        )


def as_rgb(
    module: nn.Module, kwargs: Mapping[str, Any], make: Callable[[Mapping[str, Any]], nn.Module],
    place: str,
) -> tuple[nn.Module, dict[str, Any]]:  # fmt: skip
    """Return the network on RGB images that gives what a grey one gives on their luma.

    Args:
        module: The grey network with its weights.
        kwargs: The arguments that built it.
        make: Builds the architecture with other arguments.
        place: Of the entry in the run file.

    Returns:
        It and the arguments that build it.

    Raises:
        UserError: If more of the network than its first layer depends on the channels.
    """
    asked = {**kwargs, CHANNELS: 3}
    wide = make(asked)
    own, state = module.state_dict(), wide.state_dict()
    weights = torch.tensor(LUMA)
    for key, tensor in state.items():
        grey = own.get(key)
        if grey is not None and grey.shape == tensor.shape:
            state[key] = grey
        elif grey is not None and _is_first(grey.shape, tensor.shape):
            state[key] = grey * weights.view(1, 3, *[1] * (grey.ndim - 2))
        else:
            raise UserError(
                f"{place}.kwargs.{CHANNELS} is 1, and '{key}' depends on it in a way that is not "
                "known here, so that the model cannot be made to take RGB images. Give a model of "
                "RGB images."
            )
    wide.load_state_dict(state, strict=True)
    return wide.eval(), asked


def check_takes_rgb(module: nn.Module, size: int, place: str) -> None:
    """Refuse a module, of the user's own say, that takes images of other channels.

    It is run (without data) only where its first convolution has another number of channels.

    Raises:
        UserError: If it runs on such images, and not on RGB.
    """
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or first.in_channels == 3:
        return
    if not _runs(module, 3, size) and _runs(module, first.in_channels, size):
        raise UserError(
            f"{place} takes images of {first.in_channels} channels, but images are decoded as RGB. "
            f"Give a model of RGB images, or one with the argument '{CHANNELS}' "
            f"(kwargs: {{{CHANNELS}: 1}}) for grey ones."
        )


def average(values: Triple) -> Triple:
    """Return the average for each channel, as timm has it for grey images."""
    mean = sum(values) / 3
    return mean, mean, mean


def _is_first(grey: torch.Size, rgb: torch.Size) -> bool:
    """Whether two shapes are those of a layer on one channel and on three."""
    same = len(grey) == len(rgb) >= 2 and grey[0] == rgb[0] and grey[2:] == rgb[2:]
    return same and (grey[1], rgb[1]) == (1, 3)


@torch.no_grad()
def _runs(module: nn.Module, channels: int, size: int) -> bool:
    try:
        meta_copy(module)(torch.empty((1, channels, size, size), device="meta"))
    except Exception:  # the author's code meets images that it was not written for
        return False
    return True
