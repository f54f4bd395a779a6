"""What is trained, how, and on which images: one task a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zoo_search.networks.recipe import Recipe
from zoo_search.training.metrics import Metric
from zoo_search.training.schedules import Protocol, Schedule, get_schedule

if TYPE_CHECKING:
    import ray

    from zoo_search.config import JobConfig
    from zoo_search.data.preprocess import Preprocess
    from zoo_search.finetune.images.places import Place
    from zoo_search.finetune.networks import Network
    from zoo_search.networks.network import ReassembledNet


@dataclass(frozen=True)
class TrainingTask:
    """One network to be fine-tuned."""

    key: str  # hash of all that decides on the result; names its folder while the step runs
    name: str  # for people
    recipe: Recipe
    net: ray.ObjectRef[ReassembledNet]  # as it was assembled
    train: Mapping[Protocol, Place]
    validation: Place | None
    test: Place
    transform: Preprocess
    schedule: Schedule
    protocols: tuple[Protocol, ...]  # each from where the one before ended
    num_classes: int
    seed: int  # of order and augmentation
    fold: int | None  # whose images are held out of ``train``; None: none are
    macs: int  # multiply-adds for one image: how much work it is
    # Key of a task that differs in the last protocol alone: its end of the one before may be used.
    like: str | None = None
    metric: Metric = "accuracy"  # what validation chooses by
    class_weights: tuple[float, ...] | None = None  # of the loss; None: all classes count alike

    @property
    def streams(self) -> bool:
        """Whether some of its images are not kept decoded."""
        from zoo_search.finetune.images.streaming import Streamed

        places = (*self.train.values(), self.validation, self.test)
        return any(isinstance(place, Streamed) for place in places)

    @property
    def epochs(self) -> int:
        """Epochs of all protocols together."""
        return sum(self.schedule.epochs(protocol) for protocol in self.protocols)

    def epochs_before(self, protocol: Protocol) -> int:
        """Return the epochs of the protocols that come before one."""
        before = self.protocols[: self.protocols.index(protocol)]
        return sum(self.schedule.epochs(other) for other in before)

    def share_before(self, protocol: Protocol) -> tuple[float, float]:
        """Return which share of all epochs the protocols before are, and which this one is."""
        own = self.schedule.epochs(protocol)
        return self.epochs_before(protocol) / self.epochs, own / self.epochs


@dataclass(frozen=True)
class Values:
    """What a training has in its last protocol in place of the schedule's own values.

    Attributes:
        rate: Factor of the learning rate.
        decay: Weight decay.
    """

    rate: float
    decay: float

    def __str__(self) -> str:
        return f"rate × {self.rate:g}, decay {self.decay:g}"

    def put_into(self, schedule: Schedule, protocol: Protocol) -> Schedule:
        """Return a schedule whose last protocol has them."""
        if protocol == "full":
            rate = schedule.lr_full * self.rate
            return replace(schedule, lr_full=rate, weight_decay_full=self.decay)
        rate = schedule.lr_frozen * self.rate
        return replace(schedule, lr_frozen=rate, weight_decay=self.decay)


def schedule_of(
    network: Network, job: JobConfig, protocols: Sequence[Protocol]
) -> tuple[Schedule, tuple[Protocol, ...]]:
    """Return how a network is trained, and by which of these protocols.

    A plain architecture without weights of its own has no blocks that are worth keeping still while
    a head learns: it goes through the last protocol alone, with the epochs of all.
    """
    config = job.finetune
    schedule = get_schedule(
        config.schedule.name,
        epochs=config.epochs,
        batch_size=config.batch_size,
        lr=config.lr,
        **config.schedule.overruled(),
    )
    bare = all(model.spec.weights is None for model in network.models.values())
    if network.entry.role == "plain" and bare:
        epochs = sum(schedule.epochs(protocol) for protocol in protocols)
        schedule = replace(schedule, epochs_frozen=epochs, epochs_full=epochs)
        protocols = protocols[-1:]
    if not network.fitted:
        schedule = replace(schedule, step_limit=None)
        if protocols[0] == "full":  # after FROZEN-TUNING it is fitted
            schedule = replace(schedule, step_limit_full=None, renew=False)
    return schedule, tuple(protocols)
