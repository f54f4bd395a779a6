"""How good predictions are: accuracy, what counts all classes alike, and calibration.

Balanced accuracy and macro F1 are means over the classes that have images: what scikit-learn gives
for ``labels=np.unique(labels)``. Pure functions over NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1"]
METRICS: dict[Metric, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
}
"""What validation may choose by, and what each is called."""
BINS = 15


@dataclass(frozen=True, eq=False)
class PerClass:
    """How each class is recognised, float64 ``[C]`` in [0, 1]; 0 where there is nothing to divide.

    Attributes:
        precision: Share of the images that were given this class to which it belongs.
        recall: Share of its images that were given it.
        f1: Harmonic mean of the two.
        count: Images of the class, int64 ``[C]``.
    """

    precision: Floats
    recall: Floats
    f1: Floats
    count: Ints


def confusion(labels: Ints, predicted: Ints, classes: int | None = None) -> Ints:
    """Return how many images of each class (row) were given each class (column), ``[C, C]``.

    Args:
        labels: ``[N]``, from 0 on.
        predicted: ``[N]``.
        classes: C; default: as many as occur.
    """
    if classes is None:
        classes = int(max(labels.max(initial=-1), predicted.max(initial=-1))) + 1
    places = labels.astype(np.int64) * classes + predicted
    return np.bincount(places, minlength=classes * classes).reshape(classes, classes)


def per_class(counts: Ints) -> PerClass:
    """Return precision, recall and F1 of each class of a confusion matrix."""
    right, of, given = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return PerClass(_ratio(right, given), _ratio(right, of), _ratio(2 * right, of + given), of)


def _ratio(part: Ints, whole: Ints) -> Floats:
    return np.where(whole > 0, part / np.maximum(whole, 1), 0.0)


def score(metric: Metric, counts: Ints) -> float:
    """Return a metric of a confusion matrix, in [0, 1]; 0 where there are no images."""
    total = int(counts.sum())
    if not total:
        return 0.0
    if metric == "accuracy":
        return int(counts.trace()) / total
    found = per_class(counts)
    values = found.recall if metric == "balanced_accuracy" else found.f1
    return float(values[found.count > 0].mean())


def differences(metric: Metric, labels: Ints, first: Ints, second: Ints) -> Floats:
    """Return what each image has in by how much the first predictions are better, ``[N]``.

    The mean over the images is the difference of the metric, exactly; where both predictions are
    the same it is 0. So the spread over images says how sure a difference is, as of accuracies.

    For accuracy these are 1, 0 and -1. Balanced accuracy weighs an image of class c, of N images in
    C classes, by N / (C n_c). F1 of a class is 2 r / d, with r images that are right and d, the
    images of the class and those that were given it. With means over both predictions marked by a
    bar, x y - x' y' = x̄ (y - y') + ȳ (x - x') gives

        2 r / d - 2 r' / d' = (2 (r - r') - F̄ (d - d')) / d̄,

    in which r and d are sums over images.

    Args:
        labels: ``[N]``, from 0 on.
        first: Predicted classes ``[N]``.
        second: Likewise.
    """
    gain = np.equal(first, labels).astype(np.float64) - np.equal(second, labels)
    if metric == "accuracy" or not len(labels):
        return gain
    size = int(max(labels.max(), first.max(), second.max())) + 1
    counts = np.bincount(labels, minlength=size)
    there = counts > 0
    share = len(labels) / int(there.sum())
    if metric == "balanced_accuracy":
        return share * gain / counts[labels]
    both = [confusion(labels, said, size) for said in (first, second)]
    middle = np.mean([c.sum(axis=0) + c.sum(axis=1) for c in both], axis=0)
    f1 = np.mean([per_class(c).f1 for c in both], axis=0)
    # What a class without images is given counts in no mean, as its F1 does not.
    given = np.where(there, f1 / np.maximum(middle, 1), 0.0)
    found: Floats = share * (2 * gain / middle[labels] - given[first] + given[second])
    return found


def calibration_error(probabilities: Floats, labels: Ints, bins: int = BINS) -> float:
    """Return the expected calibration error (Guo et al. 2017, Eq. 3), in [0, 1].

    Images are sorted by the probability of the class that they are given into ``bins`` of equal
    width, the upper end inside; the error is the mean over all images of how far, in their bin, the
    accuracy is from the mean probability.

    Args:
        probabilities: ``[N, C]``.
        labels: ``[N]``; -1 for images of no class, which are never right.
    """
    if not len(labels):
        return 0.0
    sure = probabilities.max(axis=1).astype(np.float64)
    right = np.equal(probabilities.argmax(axis=1), labels)
    place = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=right - sure, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))
