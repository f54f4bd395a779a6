"""How far one network is ahead of another, with an interval that knows images and trainings.

Two networks are trained some times each, with the same seeds, and look at the same test images. The
difference of their accuracies is the mean of ``d[s, i]``: 1 where only the first is right in
training ``s`` on image ``i``, -1 where only the second is, else 0. Another draw of images would
give another mean, and so would other trainings: both are random effects, crossed, and the variance
of the mean is that of a two-way layout with one value a cell (Searle, Casella and McCulloch,
*Variance Components*, 1992, chapter 4), the degrees of freedom those of Satterthwaite (1946).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Right = npt.NDArray[np.bool_]
"""Which test images each training got right, ``[trainings, images]``."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over trainings and images, and the interval that holds it with 95 % confidence."""

    mean: float
    low: float
    high: float
    trainings: int
    images: int

    @property
    def outcome(self) -> Literal["ahead", "behind", "level"]:
        """Of a difference: whether zero is outside of the interval, and on which side."""
        if self.low > 0:
            return "ahead"
        return "behind" if self.high < 0 else "level"


def estimate(values: npt.NDArray[np.float64]) -> Estimate:
    """Return the mean of ``values``, ``[trainings, images]``, and its interval.

    The variance is that of the means of trainings plus that of the means of images; what a cell
    has of its own is in both, so that the interval is rather too wide than too narrow. With a
    single training, or a single image, the spread of the other kind is all there is to go by.

    Raises:
        ValueError: If there are no values.
    """
    trainings, images = values.shape
    if not values.size:
        raise ValueError("no values to average")
    mean = float(values.mean())
    parts = []  # variance of the mean that each kind gives, and its degrees of freedom
    for means in (values.mean(axis=1), values.mean(axis=0)):
        if len(means) > 1:
            parts.append((float(means.var(ddof=1)) / len(means), len(means) - 1))
    variance = sum(part for part, _ in parts)
    if not variance:
        return Estimate(mean, mean, mean, trainings, images)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    from scipy import stats  # here: it takes a second

    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    return Estimate(mean, mean - reach, mean + reach, trainings, images)


def difference(ours: Right, theirs: Right) -> Estimate:
    """Return by how much the first accuracy is above the second; both ``[trainings, images]``.

    Training for training and image for image they are a pair.

    Raises:
        ValueError: If they are not of the same trainings and images.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"{ours.shape} and {theirs.shape} are no pairs")
    return estimate(ours.astype(np.float64) - theirs)
