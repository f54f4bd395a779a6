"""What becomes known of a training while it goes on: shares done, logs, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from zoo_search.finetune.checkpoints import Checkpoints, TaskCheckpoint
from zoo_search.finetune.entries import ProtocolResult
from zoo_search.finetune.logs import EpochLog
from zoo_search.finetune.tasks import TrainingTask
from zoo_search.training.choice import Choice, Kept
from zoo_search.training.schedules import Protocol
from zoo_search.training.snapshot import Epoch, Snapshot

_LOGGED = {
    "train_loss": "loss",
    "train_accuracy": "accuracy",
    "validation_accuracy": "validation_accuracy",
    "validation_loss": "validation_loss",
    "validation_score": "validation_score",
    "rate": "rate",
    "images_per_second": "images_per_second",
    "device_memory": "device_memory",
    "seconds": "seconds",
}
"""Fields of an epoch, and what logs call them."""


class Paused(Exception):  # noqa: N818 - nothing is wrong
    """A training has come as far as it was to come for now; a checkpoint says where it is."""

    def __init__(self, best: Kept | None) -> None:
        super().__init__()
        self.best = best


def best_so_far(
    kept: Kept | None,
    finished: Mapping[Protocol, ProtocolResult],
    protocol: Protocol,
    curve: Sequence[Epoch],
    until: int,
) -> Kept | None:
    """Return the best of all epochs of a training, or its start if that is what is kept.

    That is what a training on its way is judged by: what it ends with is hardly worse, and one
    epoch more or less says little, the first ones of FULL-TUNING above all, in which the running
    statistics of batch norms lag behind the weights.

    Args:
        kept: Where the weights come from that it would end with now; None: nothing judges it.
        finished: What the protocols before gave.
        protocol: That is in work.
        curve: Its epochs.
        until: Epochs, of all protocols, that count.
    """
    if kept is None:
        return None
    curves = [*((name, result.curve) for name, result in finished.items()), (protocol, curve)]
    points = [(name, point) for name, points in curves for point in points][:until]
    seen = [
        Kept(
            name,
            point.epoch,
            point.validation_accuracy,
            point.validation_loss,
            point.validation_score,
        )
        for name, point in points
        if point.validation_accuracy is not None and point.validation_loss is not None
    ]
    if not kept.epoch:  # the start is in no curve
        seen.append(kept)
    return max(seen, key=lambda one: (one.score, -one.validation_loss))


class Watcher:
    """Is told what happens in the training of one network; this one keeps it to itself."""

    def begin(
        self, protocol: Protocol, finished: Mapping[Protocol, ProtocolResult], choice: Choice
    ) -> None:
        """Hear of a protocol that begins, or goes on, of those before it, and of what is kept."""

    def step(self, share: float, snapshot: Callable[[], Snapshot]) -> None:
        """Hear of a step: the share of the protocol that is done, and where it is."""

    def epoch(self, point: Epoch, snapshot: Callable[[], Snapshot]) -> None:
        """Hear of an epoch."""

    def end(self, finished: Mapping[Protocol, ProtocolResult]) -> None:
        """Hear what all protocols gave."""


class Reporter(Watcher):
    """Tells the driver how far the training is, and writes logs and checkpoints.

    Args:
        share: Is told the share of the whole task that is done.
        epoch_seconds: At the end of an epoch a checkpoint is written when the last one is so old:
            what takes less is as quickly repeated.
        step_seconds: Likewise within an epoch.
        until: Epochs, of all protocols together, after which the training pauses; None: it goes on
            to its end.
    """

    def __init__(
        self,
        task: TrainingTask,
        checkpoints: Checkpoints,
        log: EpochLog,
        share: Callable[[float], None],
        epoch_seconds: float,
        step_seconds: float,
        until: int | None = None,
    ) -> None:
        self._until = until
        self._task, self._checkpoints, self._log, self._share = task, checkpoints, log, share
        self._epoch_seconds, self._step_seconds = epoch_seconds, step_seconds
        self._last = time.monotonic()
        self._protocol: Protocol = task.protocols[0]
        self._finished: Mapping[Protocol, ProtocolResult] = {}
        self._choice = Choice()

    def begin(
        self, protocol: Protocol, finished: Mapping[Protocol, ProtocolResult], choice: Choice
    ) -> None:
        """Remember where checkpoints are."""
        self._protocol, self._finished, self._choice = protocol, finished, choice

    def step(self, share: float, snapshot: Callable[[], Snapshot]) -> None:
        """Pass the share on; write a checkpoint now and then."""
        before, part = self._task.share_before(self._protocol)
        self._share(before + part * share)
        self._keep(snapshot, self._step_seconds)

    def epoch(self, point: Epoch, snapshot: Callable[[], Snapshot]) -> None:
        """Log the record; write a checkpoint.

        Raises:
            Paused: If the training is to come no farther for now.
        """
        told = {_LOGGED[name]: value for name, value in vars(point).items() if name in _LOGGED}
        values = {name: float(value) for name, value in told.items() if value is not None}
        self._log.epoch(self._protocol, point.epoch, values)
        done = self._task.epochs_before(self._protocol) + point.epoch
        if self._until is not None and self._until <= done < self._task.epochs:
            self._keep(snapshot, 0.0)
            kept, curve = self._choice.kept, snapshot().curve
            raise Paused(best_so_far(kept, self._finished, self._protocol, curve, done))
        self._keep(snapshot, self._epoch_seconds)

    def end(self, finished: Mapping[Protocol, ProtocolResult]) -> None:
        """Log the accuracies on the test images: not before all is chosen."""
        for protocol, result in finished.items():
            self._log.result(protocol, {"test_accuracy": result.test_accuracy})

    def _keep(self, snapshot: Callable[[], Snapshot], seconds: float) -> None:
        if time.monotonic() - self._last >= seconds:
            kept, chosen = self._choice.kept, self._choice.tensors()
            self._checkpoints.write(
                TaskCheckpoint(self._protocol, self._finished, snapshot(), kept, chosen)
            )
            self._last = time.monotonic()
