"""What a transfer did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["LayerTransfer", "TransferReport"]


@dataclass(frozen=True)
class LayerTransfer:
    """One target layer that was filled.

    Attributes:
        target: Name of the layer in the target.
        source: Name of the layer in the source.
        kind: Their type.
        score: Their score (Eq. 1), in (0, 1].
        copied: Number of values copied, biases and norm statistics included.
    """

    target: str
    source: str
    kind: str
    score: float
    copied: int


@dataclass(frozen=True)
class TransferReport:
    """The outcome of a transfer.

    Attributes:
        similarity: Similarity of the two architectures (Eq. 5), in [0, 1].
        score: Score of the matching, at most the number of layers of the target.
        layers: The layers that were filled, in the order of the target.
        untouched: Names of the target's layers that no source layer was matched with.
        copied: Number of values of the target that were replaced.
        total: Number of values in the target's layers, norm statistics included.
    """

    similarity: float
    score: float
    layers: tuple[LayerTransfer, ...]
    untouched: tuple[str, ...]
    copied: int
    total: int

    @property
    def coverage(self) -> float:
        """Share of the target's values that came from the source, in [0, 1]."""
        return self.copied / self.total

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "coverage": self.coverage}

    def __str__(self) -> str:
        """One line for a terminal."""
        layers = len(self.layers) + len(self.untouched)
        return (
            f"{len(self.layers)} of {layers} layers filled, {self.copied:,} of {self.total:,} "
            f"values ({self.coverage:.1%}), similarity {self.similarity:.3f}"
        )
