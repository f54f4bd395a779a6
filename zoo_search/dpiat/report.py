"""What a transfer did."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from typing import Any


@dataclass(frozen=True)
class LayerTransfer:
    """One target layer that was filled: names in both networks, type and shapes of the weights."""

    target: str
    source: str
    kind: str
    score: float
    """Of the pair (Eq. 1), in (0, 1]."""
    copied: int
    """Number of values copied, biases and norm statistics included."""
    total: int
    """Number of values in the target layer; the rest lies outside the crop."""
    target_shape: tuple[int, ...]
    source_shape: tuple[int, ...]


@dataclass(frozen=True)
class Untouched:
    """One target layer that kept its values: why no source layer was matched with it."""

    name: str
    kind: str
    shape: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class TransferReport:
    """The outcome of a transfer."""

    similarity: float
    """Of the two architectures (Eq. 5), in [0, 1]."""
    score: float
    """Of the matching, at most the number of layers of the target."""
    matching: str
    operator: str
    layers: tuple[LayerTransfer, ...]
    """In the order of the target."""
    untouched: tuple[Untouched, ...]
    copied: int
    """Number of values of the target that were replaced."""
    total: int
    """Number of values in the target's layers, norm statistics included."""

    @property
    def coverage(self) -> float:
        """Share of the target's values that came from the source, in [0, 1]."""
        return self.copied / self.total

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "coverage": self.coverage}

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a layer of the target for a table: filled ones first, then the others."""
        filled = [{**asdict(layer), "reason": None} for layer in self.layers]
        names = dict.fromkeys(filled[0]) if filled else {}
        told = ("target", "kind", "target_shape", "reason")
        return [
            *filled,
            *(names | dict(zip(told, astuple(x), strict=True)) for x in self.untouched),
        ]

    def __str__(self) -> str:
        """One line for a terminal."""
        layers = len(self.layers) + len(self.untouched)
        return (
            f"{len(self.layers)} of {layers} layers filled, {self.copied:,} of {self.total:,} "
            f"values ({self.coverage:.1%}), similarity {self.similarity:.3f}"
        )
