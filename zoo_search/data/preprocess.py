"""What a model wants done to an image before it sees it."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo_search.data.decode import MAX_PIXELS, Range, decode
from zoo_search.data.view import INTERPOLATIONS, View

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocess:
    """Evaluation preprocessing: resize and centre crop as :class:`View`, scale, normalise.

    Attributes:
        size: ``(H, W)`` of what the model sees, in pixels.
        mean: Mean of each of the channels R, G, B, in [0, 1].
        std: Standard deviation of each channel.
        value_range: Stored values that are black and white in grey images of more than 8 bits; of
            an exported network, whose data set had one (``dataset.value_range``).

    Raises:
        ValueError: If black is not below white, or mean and deviation normalise nothing.
    """

    size: tuple[int, int]
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    value_range: Range | None = None

    def __post_init__(self) -> None:
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError("value_range should be the value of black and a larger one of white")

        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError("mean and std should be finite, and std above 0")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields; ``value_range`` only where there is one: earlier versions had none."""
        told = asdict(self)
        if self.value_range is None:
            del told["value_range"]
        return told

    @property
    def view(self) -> View:
        """How images are decoded for the model; the rest is arithmetic on the pixels."""
        return View(self.size, self.interpolation, self.crop_pct)

    def normalize(self, images: Tensor) -> Tensor:
        """Return float32 ``[B, 3, H, W]`` from uint8 images ``[B, 3, H, W]`` of the right size."""
        mean, std = _channels(self.mean, images.device), _channels(self.std, images.device)
        return images.to(torch.float32).div(255).sub(mean).div(std)

    def image(self, image: Image) -> Tensor:
        """Return float32 ``[3, H, W]`` from a picture of any size and mode."""
        pixels = torch.from_numpy(decode(image, self.view, MAX_PIXELS, self.value_range))
        return self.normalize(pixels.unsqueeze(0)).squeeze(0)


def preprocess_for(size: int, *said: Mapping[str, Any]) -> Preprocess:
    """Return the preprocessing at a height and width that several sources of facts agree on.

    Of ``mean``, ``std``, ``interpolation`` and ``crop_pct`` the first that says a thing counts,
    then ImageNet's mean and deviation, bicubic, and the whole image.
    """
    facts = {key: value for told in reversed(said) for key, value in told.items() if value}
    interpolation = facts.get("interpolation")
    return Preprocess(
        size=(size, size),
        mean=_triple(facts.get("mean", IMAGENET_MEAN)),
        std=_triple(facts.get("std", IMAGENET_STD)),
        interpolation=interpolation if interpolation in INTERPOLATIONS else "bicubic",
        crop_pct=float(facts.get("crop_pct", 1.0)),
    )


@functools.lru_cache(maxsize=64)
def _channels(values: Triple, device: torch.device) -> Tensor:
    """Return a value a channel on a device, once: each copy would wait for a GPU."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device).view(1, 3, 1, 1)


def _triple(values: Iterable[float]) -> Triple:
    red, green, blue = map(float, values)
    return red, green, blue
