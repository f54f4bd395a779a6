"""What goes into the fine-tuning of a run, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from zoo_search.reassembly.recipe import Recipe

if TYPE_CHECKING:
    from zoo_search.hooks import Init
    from zoo_search.zoo.models import ZooModel

__all__ = ["Entry", "Result", "Role"]

Role = Literal["reassembly", "single", "random", "plain", "variant"]


@dataclass(frozen=True)
class Entry:
    """A network to be fine-tuned.

    Attributes:
        name: For people.
        role: ``"reassembly"``, the baseline that it is (``"single"``, ``"random"``), ``"plain"``
            for an architecture that took no part in the search, ``"variant"`` for a changed winner.
        recipe: The network on paper.
        scores: Score by proxy.
        models: Models of the recipe that the zoo does not hold.
        init: Init hooks for this network; None: those of the run.
    """

    name: str
    role: Role
    recipe: Recipe
    scores: Mapping[str, float] = field(default_factory=dict)
    models: Mapping[str, ZooModel] = field(default_factory=dict)
    init: Init | None = None


@dataclass(frozen=True)
class Result:
    """A fine-tuned network; the fields are those of ``winners.json``.

    Attributes:
        name: For people.
        role: See :class:`Entry`.
        recipe: The recipe as a mapping.
        params: Parameters.
        macs: Multiply-adds for one image.
        scores: Score by proxy.
        protocols: By protocol: test accuracy in [0, 1], trainable parameters, seconds, curve.
        folder: The exported network in the run directory.
        task: Hash of all that decided on the training; a later run of the same takes the result.
        init: Reports of the init hooks, as plain values.
        of: For a variant: the name of the network that it starts from.
    """

    name: str
    role: Role
    recipe: Mapping[str, Any]
    params: int
    macs: int
    scores: Mapping[str, float]
    protocols: Mapping[str, Any]
    folder: str | None
    task: str = ""
    init: Sequence[Mapping[str, Any]] = ()
    of: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of ``winners.json``."""
        plain = {"scores": dict(self.scores), "protocols": dict(self.protocols)}
        return {**vars(self), **plain, "init": [dict(report) for report in self.init]}
