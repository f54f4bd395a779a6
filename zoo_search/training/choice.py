"""Which weights a training ends with: chosen by images that nothing is trained on.

A training may end worse than it began: a network can come to harm on the way, and few images are
soon learned by heart. So the weights after each epoch are judged on validation images, and the ones
that are kept are the latest that are not clearly worse than the best so far, and not worse at all
than those that the protocol before left.

Accuracies on few images are noisy, and the highest of thirty is no better than its neighbours,
while the end of a schedule, where the rate has gone to zero, usually is. Hence within a protocol
not the highest, but what is within some standard errors of it, as trees are pruned (Breiman et al.
1984, section 3.4.3); the error is that of a paired difference, since the same images were looked
at. It is two of them, and not one as there: with 40 validation images one gives up more than it
saves (``benchmarks/schedules.py``).

That the end is better cannot be said of FULL-TUNING as a whole: where it learns the few images by
heart, as with textures, two standard errors of 24 images kept networks that had lost up to 17
points to it. So its weights have to be as good as FROZEN-TUNING's (``benchmarks/kept.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from zoo_search.training.metrics import Floats, Ints, differences
from zoo_search.training.schedules import Protocol

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from zoo_search.training.accuracy import Predictions

_ERRORS = 2.0
_FEW = 4
"""Images on which two sets of weights have to differ before anything is clear."""
_ROUNDING = 1e-12

Right = npt.NDArray[np.bool_]
"""Which validation images got their label, ``[N]``."""


@dataclass(frozen=True)
class Kept:
    """Where the weights come from that a training ends with, and how they do on validation images.

    Attributes:
        protocol: That made them.
        epoch: Of that protocol; 0: the start.
        validation_accuracy: Share of the validation images that got their label.
        validation_loss: Mean cross-entropy in nats.
        validation_score: What chose instead of the accuracy
            (:data:`~zoo_search.training.metrics.METRICS`); None: the accuracy did.
    """

    protocol: Protocol
    epoch: int
    validation_accuracy: float
    validation_loss: float
    validation_score: float | None = None

    @property
    def score(self) -> float:
        """What chooses: the higher, the better."""
        return chooses(self.validation_accuracy, self.validation_score)


def chooses(accuracy: float, score: float | None) -> float:
    """Return what chooses: the score, or the accuracy where there is none."""
    return accuracy if score is None else score


def as_written(value: DataclassInstance) -> dict[str, Any]:
    """Return a record as files hold it: without ``validation_score`` where the accuracy chose."""
    return asdict(
        value,
        dict_factory=lambda pairs: {
            name: each for name, each in pairs if not (name == "validation_score" and each is None)
        },
    )


def clearly_worse(right: Right, best: Right, behind: Floats | None = None) -> bool:
    """Say whether an accuracy is below the best by more than two standard errors.

    The error is that of the mean of the paired differences (1, 0 or -1 an image). Where they differ
    on fewer than four images, nothing is clear. Of another metric than accuracy, ``behind`` is what
    each image has in the difference
    (:func:`~zoo_search.training.metrics.differences`).
    """
    difference = best.astype(np.float64) - right if behind is None else behind
    count = len(difference)
    if np.count_nonzero(best != right) < _FEW:
        return False
    error = difference.std(ddof=1) / math.sqrt(count)
    # Some images more that are wrong may be as much to rounding, and that is not clear.
    return bool(difference.mean() > _ERRORS * error * (1 + 1e-9))


class Choice:
    """Keeps the weights that a training ends with, over all of its protocols."""

    def __init__(self) -> None:
        self.kept: Kept | None = None
        """None until something was offered."""
        self._best: Right | None = None
        self._said: Ints | None = None  # classes, where another metric than accuracy chooses
        self._floor = -math.inf  # the score of what the protocol before left
        self._weights: Mapping[str, Tensor] = {}

    def offer(self, net: nn.Module, found: Predictions, protocol: Protocol, epoch: int) -> None:
        """Keep a copy of the weights, on the CPU, unless others are to be preferred to them.

        These are worse: what is clearly so than the best, and what is so at all than the weights
        that the protocol before left.
        """
        if self.kept is not None and self.kept.protocol != protocol:
            self._floor = max(self._floor, self.kept.score)
        right, behind = found.right, self._behind(found)
        if self._best is not None and clearly_worse(right, self._best, behind):
            return
        if chooses(found.accuracy, found.score) < self._floor - _ROUNDING:
            return
        if behind is None or behind.mean() <= _ROUNDING:
            self._best = right
            self._said = None if found.metric == "accuracy" else found.answers[1]
        self.kept = Kept(protocol, epoch, found.accuracy, found.loss, found.score)
        self._weights = {k: v.detach().cpu().clone() for k, v in net.state_dict().items()}

    def _behind(self, found: Predictions) -> Floats | None:
        """Return what each image has in the distance to the best; None where there is no best."""
        if self._best is None:
            return None
        if self._said is None:
            return self._best.astype(np.float64) - found.right
        labels, said = found.answers
        return differences(found.metric, labels, self._said, said)

    def put_into(self, net: nn.Module) -> None:
        """Give a network the weights that are kept, if there are any."""
        if self.kept is not None:
            net.load_state_dict(dict(self._weights))

    def tensors(self) -> dict[str, Tensor]:
        """Return all that :meth:`resume` needs beside :attr:`kept`."""
        if self._best is None:
            return {}
        weights = {f"weights.{name}": value for name, value in self._weights.items()}
        said = {} if self._said is None else {"said": torch.from_numpy(self._said)}
        floor = torch.tensor(self._floor, dtype=torch.float64)
        return {"best": torch.from_numpy(self._best), "floor": floor, **said, **weights}

    def resume(self, kept: Kept | None, tensors: Mapping[str, Tensor]) -> None:
        """Go on from where another choice was."""
        if kept is not None:
            self.kept, self._best = kept, tensors["best"].numpy()
            self._said = tensors["said"].numpy() if "said" in tensors else None
            self._floor = float(tensors["floor"])
            self._weights = {
                name.removeprefix("weights."): value
                for name, value in tensors.items()
                if name.startswith("weights.")
            }
