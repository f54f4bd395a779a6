"""What a transfer did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["LayerTransfer", "TransferReport", "Untouched"]


@dataclass(frozen=True)
class LayerTransfer:
    """One target layer that was filled.

    Attributes:
        target: Name of the layer in the target.
        source: Name of the layer in the source.
        kind: Their type.
        score: Their score (Eq. 1), in (0, 1].
        copied: Number of values copied, biases and norm statistics included.
        total: Number of values in the target layer; the rest lies outside the crop.
        target_shape: Shape of the target's weight.
        source_shape: Shape of the source's weight.
    """

    target: str
    source: str
    kind: str
    score: float
    copied: int
    total: int
    target_shape: tuple[int, ...]
    source_shape: tuple[int, ...]


@dataclass(frozen=True)
class Untouched:
    """One target layer that kept its values.

    Attributes:
        name: Name of the layer in the target.
        kind: Its type.
        shape: Shape of its weight.
        reason: Why no source layer was matched with it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class TransferReport:
    """The outcome of a transfer.

    Attributes:
        similarity: Similarity of the two architectures (Eq. 5), in [0, 1].
        score: Score of the matching, at most the number of layers of the target.
        matching: Name of the matching operator.
        operator: Name of the transfer operator.
        layers: The layers that were filled, in the order of the target.
        untouched: The target's layers that no source layer was matched with, and why.
        copied: Number of values of the target that were replaced.
        total: Number of values in the target's layers, norm statistics included.
    """

    similarity: float
    score: float
    matching: str
    operator: str
    layers: tuple[LayerTransfer, ...]
    untouched: tuple[Untouched, ...]
    copied: int
    total: int

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
        left = [
            {
                **names,
                "target": layer.name,
                "kind": layer.kind,
                "target_shape": layer.shape,
                "reason": layer.reason,
            }
            for layer in self.untouched
        ]
        return [*filled, *left]

    def __str__(self) -> str:
        """One line for a terminal."""
        layers = len(self.layers) + len(self.untouched)
        return (
            f"{len(self.layers)} of {layers} layers filled, {self.copied:,} of {self.total:,} "
            f"values ({self.coverage:.1%}), similarity {self.similarity:.3f}"
        )
