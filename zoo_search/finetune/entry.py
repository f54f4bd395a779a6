"""What goes into the fine-tuning of a run, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zoo_search.reassembly.recipe import Recipe

__all__ = ["Entry", "Result", "Role"]

Role = Literal["reassembly", "single", "random"]


@dataclass(frozen=True)
class Entry:
    """A network to be fine-tuned.

    Attributes:
        name: For people.
        role: ``"reassembly"``, or the baseline that it is.
        recipe: The network on paper.
        scores: Score by proxy.
    """

    name: str
    role: Role
    recipe: Recipe
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """A fine-tuned network; the fields are those of ``winners.json``.

    Attributes:
        name: For people.
        role: ``"reassembly"``, or the baseline that it is.
        recipe: The recipe as a mapping.
        params: Parameters.
        macs: Multiply-adds for one image.
        scores: Score by proxy.
        protocols: By protocol: test accuracy in [0, 1], trainable parameters, seconds, curve.
        folder: The exported network in the run directory.
    """

    name: str
    role: Role
    recipe: Mapping[str, Any]
    params: int
    macs: int
    scores: Mapping[str, float]
    protocols: Mapping[str, Any]
    folder: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of ``winners.json``."""
        return {**vars(self), "scores": dict(self.scores), "protocols": dict(self.protocols)}
