"""The partition of a zoo and its file, ``partition.json`` (``docs/design.md``, "Partition")."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo_search.core import files
from zoo_search.core.errors import UserError
from zoo_search.core.json_text import read_json

FORMAT = 1
"""Of a file that holds one partition."""
FORMAT_OF_MANY = 2
"""Of a file that holds several, one for each number of blocks."""


@dataclass(frozen=True)
class Anchor:
    """The most central block of a set: the nodes between two cuts of one model, [start, stop)."""

    model: str
    start: int
    stop: int


@dataclass(frozen=True)
class PartitionBlock:
    """One block of the partition.

    Attributes:
        model: Name of its model.
        start: First cut.
        stop: Last cut, exclusive as an index of nodes.
        stage: Position inside its model, 0..K-1.
        set: Index of its equivalence set, which is also that of the set's anchor.
        similarity: S(block, anchor of its set), the sum of the similarities of two pairs of cuts.
    """

    model: str
    start: int
    stop: int
    stage: int
    set: int
    similarity: float


@dataclass(frozen=True)
class RestartRecord:
    """How one restart ended."""

    seed: int
    objective: float
    iterations: int


@dataclass(frozen=True)
class Partition:
    """K blocks per model in K equivalence sets.

    Attributes:
        k: Blocks per model, and sets.
        eps: Size coefficient of Eq. 5.
        size: What a block's size counts.
        method: ``exact``, ``kl`` or ``random``.
        objective: Eq. 2, the sum of the blocks' similarities.
        upper_bound: A value that no partition of this problem exceeds; None if it was not asked.
        anchors: One per set, in the order of the sets; set 0 lies nearest to the images.
        blocks: Model after model, stage after stage.
        restarts: In the order of their indices.
        shifts: Blocks that stand beside those of the partition, with ends at other cuts of the same
            set, where they were asked for (:mod:`zoo_search.partitions.shifts`).
    """

    k: int
    eps: float
    size: str
    method: str
    objective: float
    upper_bound: float | None
    anchors: tuple[Anchor, ...]
    blocks: tuple[PartitionBlock, ...]
    restarts: tuple[RestartRecord, ...]
    shifts: tuple[PartitionBlock, ...] = ()

    @property
    def gap(self) -> float | None:
        """How far the objective may be below the best there is, as a share of the upper bound."""
        if self.upper_bound is None:
            return None
        if self.upper_bound == self.objective:
            return 0.0
        return (self.upper_bound - self.objective) / abs(self.upper_bound or 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that ``partition.json`` holds; ``shifts`` where there are any."""
        data = {"format": FORMAT, **asdict(self)}
        if not self.shifts:
            del data["shifts"]
        return data

    @classmethod
    def from_dict(cls, data: Any, name: str = "the partition") -> Partition:
        """Return the partition of a mapping of that form.

        Raises:
            UserError: If the format is another one, or an entry is missing, unknown or of the
                wrong type; ``name`` says where.
        """
        found = data.get("format") if isinstance(data, dict) else None
        if found != FORMAT:
            raise UserError(
                f"{name} has format {found!r}, and this version reads format {FORMAT}. "
                "Run 'zoo-search partition' again to write a new one."
            )
        try:
            bound = data["upper_bound"]
            return cls(
                k=int(data["k"]),
                eps=float(data["eps"]),
                size=str(data["size"]),
                method=str(data["method"]),
                objective=float(data["objective"]),
                upper_bound=None if bound is None else float(bound),
                anchors=tuple(Anchor(**anchor) for anchor in data["anchors"]),
                blocks=tuple(PartitionBlock(**block) for block in data["blocks"]),
                restarts=tuple(RestartRecord(**restart) for restart in data["restarts"]),
                shifts=tuple(PartitionBlock(**block) for block in data.get("shifts", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            what = f"entry {error} is missing" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f"{name} is no partition: {what}. Run 'zoo-search partition' again."
            ) from None

    def save(self, path: str | Path) -> None:
        """Write ``partition.json`` to a local path (whole or not at all) or an fsspec URI.

        Raises:
            UserError: If it cannot be written there.
        """
        save_partitions([self], path)

    @classmethod
    def load(cls, path: str | Path) -> Partition:
        """Read ``partition.json`` from a local path or an fsspec URI.

        Raises:
            UserError: If the file cannot be read, is no partition, or holds several.
        """
        found = load_partitions(path)
        if len(found) > 1:
            numbers = ", ".join(str(partition.k) for partition in found)
            raise UserError(
                f"{path} holds {len(found)} partitions, with k = {numbers}, where one is wanted. "
                "Read them with zoo_search.partitions.load_partitions, or give 'partition.k' one "
                "number."
            )
        return found[0]


def to_plain(partitions: Sequence[Partition]) -> dict[str, Any]:
    """Return the mapping that ``partition.json`` holds: that of one partition, or of several."""
    if len(partitions) == 1:
        return partitions[0].to_dict()
    return {"format": FORMAT_OF_MANY, "partitions": [each.to_dict() for each in partitions]}


def from_plain(data: Any, name: str = "the partition") -> tuple[Partition, ...]:
    """Return the partitions of a mapping of that form, in its order.

    Raises:
        UserError: As :meth:`Partition.from_dict`.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT_OF_MANY:
        return (Partition.from_dict(data, name),)
    listed = data.get("partitions")
    if not isinstance(listed, list) or not listed:
        raise UserError(
            f"{name} is no partition: 'partitions' lists none. Run 'zoo-search partition' again."
        )
    return tuple(Partition.from_dict(each, f"{name}, entry {i},") for i, each in enumerate(listed))


def save_partitions(partitions: Sequence[Partition], path: str | Path) -> None:
    """Write partitions to a local path (whole or not at all) or an fsspec URI.

    Raises:
        UserError: If they cannot be written there.
    """
    text = json.dumps(to_plain(partitions), indent=1, allow_nan=False) + "\n"
    try:
        files.write(path, text.encode())
    except OSError as error:
        raise UserError(
            f"The partition {path} cannot be written ({error.strerror or error}). Give a path "
            "in a folder that you may write to, or an fsspec URI."
        ) from None


def load_partitions(path: str | Path) -> tuple[Partition, ...]:
    """Read all that ``partition.json`` holds, from a local path or an fsspec URI.

    Raises:
        UserError: If the file cannot be read or holds no partition.
    """
    try:
        data = read_json(files.read(path))
    except OSError as error:
        raise UserError(
            f"The partition {path} cannot be read ({error.strerror or error}). Give the path "
            "of a partition.json, which 'zoo-search partition' writes."
        ) from None
    except ValueError as error:
        raise UserError(
            f"{path} is not valid JSON ({error}). Run 'zoo-search partition' again."
        ) from None
    return from_plain(data, str(path))
