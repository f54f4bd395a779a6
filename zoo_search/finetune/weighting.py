"""How much the images of each class count in the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from zoo_search.core.errors import UserError, nearest, some

if TYPE_CHECKING:
    from zoo_search.data.base import Subset


def class_weights(
    wanted: Literal["none", "balanced"] | Mapping[str, float], train: Subset
) -> tuple[float, ...] | None:
    """Return the weight of each class, or None where all count alike.

    Their mean over the training images is 1, so that a step is as long as without. Balanced, the
    images of each of C classes together have the share 1 / C: the weight of class c is N / (C n_c).

    Args:
        wanted: ``finetune.class_weights``.
        train: The images that are trained on.

    Raises:
        UserError: If there is no class of a name.
    """
    if wanted == "none":
        return None
    counts = np.bincount(train.labels, minlength=len(train.classes))
    if isinstance(wanted, str):
        weights = 1 / np.maximum(counts, 1)
    else:
        check_names(wanted, train.classes)
        weights = np.array([wanted.get(name, 1.0) for name in train.classes])
    mean = (weights * counts).sum() / counts.sum()
    return tuple(float(weight) for weight in weights / mean)


def check_names(wanted: Mapping[str, float], classes: tuple[str, ...]) -> None:
    """Raise :class:`UserError` unless all names are those of classes."""
    unknown = [name for name in wanted if name not in classes]
    if unknown:
        raise UserError(
            f"finetune.class_weights: the data set has no class '{unknown[0]}'."
            f"{nearest(unknown[0], classes)} Its classes: {some(classes, ', ', ' and')}. Name "
            "these; a class that is not named has the weight 1."
        )
