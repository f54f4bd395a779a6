"""What goes into the fine-tuning of a run, and what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import TypeAdapter

from zoo_search.hooks import HookReport, Init
from zoo_search.networks.recipe import Recipe
from zoo_search.training.choice import Kept, as_written, chooses
from zoo_search.training.metrics import Metric
from zoo_search.training.schedules import Protocol
from zoo_search.training.snapshot import Epoch

if TYPE_CHECKING:
    from zoo_search.core.store import RunStore
    from zoo_search.export.config import Metadata
    from zoo_search.zoo.models import ZooModel

WINNERS = "winners.json"
_FORMAT = 2

Role = Literal["reassembly", "single", "random", "plain", "variant"]
COMPARED: tuple[Role, ...] = ("reassembly", "single", "random")
"""Roles that race, and whose best networks are compared."""


@dataclass(frozen=True)
class Expected:
    """What the race had shown of a network before it began.

    Attributes:
        validation_accuracy: At the end of its training; or the metric that chooses, where that is
            another one.
        deviation: Its standard deviation.
    """

    validation_accuracy: float
    deviation: float


@dataclass(frozen=True)
class Entry:
    """A network to be fine-tuned.

    A ``"reassembly"``, the baseline that it is (``"single"``, ``"random"``), ``"plain"`` for an
    architecture that took no part in the search, or ``"variant"`` for a changed winner.
    """

    name: str  # for people
    role: Role
    recipe: Recipe
    scores: Mapping[str, float] = field(default_factory=dict)  # by proxy
    # Those of the recipe that the zoo does not hold.
    models: Mapping[str, ZooModel] = field(default_factory=dict)
    init: Init | None = None  # None: the hooks of the run
    # Why it races, where what the race has shown is why; None: the search's score, or its role.
    expected: Expected | None = None


@dataclass(frozen=True)
class ProtocolResult:
    """What a protocol of fine-tuning gave."""

    # Share of the test images that got their label, in [0, 1], with the weights that were kept when
    # it had ended. It chooses nothing.
    test_accuracy: float
    trainable_params: int  # that learned
    seconds: float  # wall clock of all epochs
    curve: tuple[Epoch, ...]  # all epochs
    kept: Kept | None = None  # which weights these are; None: the last ones, nothing judged them


@dataclass(frozen=True)
class Training:
    """One training of a network."""

    seed: int  # of order and augmentation
    fold: int | None  # of the training images that was held out; None: none was
    protocols: Mapping[Protocol, ProtocolResult]  # in the order of training
    # Hash of all that decided on it; a later run of the same takes the result.
    task: str = ""

    @property
    def last(self) -> ProtocolResult:
        """What the last protocol gave."""
        return list(self.protocols.values())[-1]

    @property
    def kept(self) -> Kept | None:
        """Which weights it ended with."""
        return self.last.kept


@dataclass(frozen=True)
class Result:
    """A fine-tuned network; the fields are those of ``winners.json``."""

    name: str
    role: Role
    recipe: Recipe
    params: int
    macs: int  # multiply-adds for one image
    scores: Mapping[str, float]  # by proxy
    trainings: tuple[Training, ...]  # one a seed
    folder: str | None  # of the export, in the run directory
    exported: int = 0  # which training's weights are there: position in those that are told
    # On all training images, after the choice; they are told in the place of the others.
    retrained: tuple[Training, ...] = ()
    init: tuple[HookReport, ...] = ()  # reports of the init hooks
    of: str | None = None  # for a variant: the name of the network that it starts from
    # What its schedule has in place of its own values: the ones that did best in the race.
    tuned: Mapping[str, float] = field(default_factory=dict)

    @property
    def told(self) -> tuple[Training, ...]:
        """The trainings whose test accuracy counts."""
        return self.retrained or self.trainings

    @property
    def protocols(self) -> Mapping[Protocol, ProtocolResult]:
        """What the protocols gave in the training that is exported."""
        return self.told[self.exported].protocols

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last protocol, in [0, 1]: mean over the trainings."""
        return fmean(training.last.test_accuracy for training in self.told)

    def accuracy_after(self, protocol: Protocol) -> float | None:
        """Return the mean test accuracy after a protocol; None where there was no such one."""
        found = [t.protocols[protocol] for t in self.told if protocol in t.protocols]
        return fmean(record.test_accuracy for record in found) if found else None

    @property
    def validation(self) -> tuple[float, float] | None:
        """Mean accuracy and loss on the validation images over the trainings; None without any."""
        kept = [training.kept for training in self.trainings if training.kept is not None]
        if not kept:
            return None
        return fmean(k.validation_accuracy for k in kept), fmean(k.validation_loss for k in kept)

    @property
    def judged(self) -> tuple[float, float] | None:
        """Mean of the metric that chooses, and of the loss, as :attr:`validation`."""
        kept = [training.kept for training in self.trainings if training.kept is not None]
        if not kept:
            return None
        return fmean(k.score for k in kept), fmean(k.validation_loss for k in kept)

    def to_dict(self) -> Metadata:
        """Return the entry of ``winners.json``."""
        return cast("Metadata", as_written(self))

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Result:
        """Read an entry of ``winners.json``."""
        init = [HookReport.from_dict(report) for report in entry.get("init", ())]
        values = {**entry, "init": init}
        if "trainings" not in entry:  # of a version that trained each network once
            only = {"protocols": values.pop("protocols"), "task": values.pop("task", "")}
            values["trainings"] = [{"seed": 0, "fold": None, **only}]
        return _RESULT.validate_python(values)


def best_first(results: Iterable[Result]) -> list[Result]:
    """Return networks in the order of how they do on the validation images.

    That is by the metric that chooses, averaged over the trainings, then by loss; those that were
    trained with more seeds, the finalists, stand before all others. Where nothing judges some of
    them, they stay in their order, which is that of the search's scores. Test images choose
    nothing.
    """
    found = sorted(results, key=lambda result: -len(result.trainings))
    if not all(result.validation for result in found):
        return found

    def order(result: Result) -> tuple[int, float, float]:
        score, loss = result.judged or (0.0, 0.0)
        return -len(result.trainings), -score, loss

    return sorted(found, key=order)


def best(results: Iterable[Result], role: Role) -> Result | None:
    """Return the network of a role that stands first in :func:`best_first`, if there is any."""
    return next(iter(best_first(r for r in results if r.role == role)), None)


_RESULT = TypeAdapter(Result)
PROTOCOLS = TypeAdapter(Mapping[Protocol, ProtocolResult])
"""Reads the results of protocols; :func:`plain_protocols` is what is written of them."""


def plain_protocols(found: Mapping[Protocol, ProtocolResult]) -> dict[str, Any]:
    """Return the results of protocols as values of JSON."""
    return {name: as_written(result) for name, result in found.items()}


@dataclass(frozen=True)
class GivenUp:
    """A network whose training came to no end."""

    name: str
    role: Role
    reason: str


@dataclass(frozen=True)
class Seen:
    """How a network did on the validation images of the first seed."""

    epochs: int  # of all protocols, that lay behind it
    validation_accuracy: float
    validation_loss: float
    # What the schedule had in place of its own values; empty: nothing.
    tuned: Mapping[str, float] = field(default_factory=dict)
    validation_score: float | None = None  # what chose, where that was not the accuracy

    @property
    def score(self) -> float:
        """What chooses."""
        return chooses(self.validation_accuracy, self.validation_score)


@dataclass(frozen=True)
class Raced:
    """A network in the race, and how far it came."""

    name: str
    role: Role
    recipe: Recipe
    macs: int
    seen: tuple[Seen, ...]  # in order; then its further tries to the end
    reason: str = ""  # why a training of it came to no end
    bracket: int = 1  # in which it began
    # By what it was taken for that: what was expected of it; None: the search's score, or its role.
    expected: Expected | None = None


_RACED = TypeAdapter(Raced)


@dataclass(frozen=True)
class Winners:
    """All that ``winners.json`` tells."""

    dataset: str  # name of the target
    classes: tuple[str, ...]  # names of its classes
    train_images: int  # that one training learned from
    test_images: int  # that the accuracies were measured on
    results: tuple[Result, ...]  # in the order of their folders
    given_up: tuple[GivenUp, ...] = ()
    # That one training was judged on; each has its own where they are held out of the training.
    validation_images: int = 0
    race: tuple[Raced, ...] = ()  # all networks that began, in the order in which they did
    metric: Metric = "accuracy"  # by which validation images chose

    def write(self, store: RunStore) -> None:
        """Write ``winners.json``."""
        facts = {"format": _FORMAT, **as_written(self)}
        if self.metric == "accuracy":  # as earlier versions wrote it
            del facts["metric"]
        store.write_json(WINNERS, facts)

    @classmethod
    def read(cls, store: RunStore) -> Winners:
        """Read ``winners.json``."""
        facts = store.read_json(WINNERS)
        del facts["format"]
        facts["results"] = tuple(map(Result.from_dict, facts["results"]))
        facts["given_up"] = tuple(GivenUp(**one) for one in facts.get("given_up", ()))
        facts["race"] = tuple(map(_RACED.validate_python, facts.get("race", ())))
        return cls(**{**facts, "classes": tuple(facts["classes"])})
