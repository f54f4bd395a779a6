"""What goes into the fine-tuning of a run, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import TypeAdapter

from zoo_search.hooks import HookReport, Init
from zoo_search.networks.recipe import Recipe
from zoo_search.training.schedules import Protocol
from zoo_search.training.snapshot import Epoch

if TYPE_CHECKING:
    from zoo_search.core.store import RunStore
    from zoo_search.export.config import Metadata
    from zoo_search.zoo.models import ZooModel

WINNERS = "winners.json"
_FORMAT = 1

Role = Literal["reassembly", "single", "random", "plain", "variant"]


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


@dataclass(frozen=True)
class ProtocolResult:
    """What a protocol of fine-tuning gave."""

    test_accuracy: float  # share of the test images that got their label, in [0, 1]
    trainable_params: int  # that learned
    seconds: float  # wall clock of all epochs
    curve: tuple[Epoch, ...]  # all epochs


@dataclass(frozen=True)
class Result:
    """A fine-tuned network; the fields are those of ``winners.json``."""

    name: str
    role: Role
    recipe: Recipe
    params: int
    macs: int  # multiply-adds for one image
    scores: Mapping[str, float]  # by proxy
    protocols: Mapping[Protocol, ProtocolResult]  # in the order of training
    folder: str | None  # of the export, in the run directory
    # Hash of all that decided on the training; a later run of the same takes the result.
    task: str = ""
    init: tuple[HookReport, ...] = ()  # reports of the init hooks
    of: str | None = None  # for a variant: the name of the network that it starts from

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last protocol, in [0, 1]."""
        return list(self.protocols.values())[-1].test_accuracy

    def to_dict(self) -> Metadata:
        """Return the entry of ``winners.json``."""
        return cast("Metadata", asdict(self))

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Result:
        """Read an entry of ``winners.json``."""
        init = [HookReport.from_dict(report) for report in entry.get("init", ())]
        return _RESULT.validate_python({**entry, "init": init})


_RESULT = TypeAdapter(Result)
PROTOCOLS = TypeAdapter(Mapping[Protocol, ProtocolResult])
"""Reads and writes the results of protocols as JSON."""


@dataclass(frozen=True)
class GivenUp:
    """A network whose training came to no end."""

    name: str
    role: Role
    reason: str


@dataclass(frozen=True)
class Winners:
    """All that ``winners.json`` tells."""

    dataset: str  # name of the target
    classes: tuple[str, ...]  # names of its classes
    train_images: int  # that were trained on
    test_images: int  # that the accuracies were measured on
    results: tuple[Result, ...]  # in the order of their folders
    given_up: tuple[GivenUp, ...] = ()

    def write(self, store: RunStore) -> None:
        """Write ``winners.json``."""
        store.write_json(WINNERS, {"format": _FORMAT, **asdict(self)})

    @classmethod
    def read(cls, store: RunStore) -> Winners:
        """Read ``winners.json``."""
        facts = store.read_json(WINNERS)
        del facts["format"]
        facts["results"] = tuple(map(Result.from_dict, facts["results"]))
        facts["given_up"] = tuple(GivenUp(**one) for one in facts.get("given_up", ()))
        return cls(**{**facts, "classes": tuple(facts["classes"])})
