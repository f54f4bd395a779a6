"""Which images are wanted, and the count of those that cannot be decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo_search.core.errors import UserError, some
from zoo_search.data.sources.listing import Reader

Ints = npt.NDArray[np.int64]

Counter = Any
"""Handle of an actor of :class:`BadImages`; Ray's own type of handles lets no method be called."""


def check_bad(bad: dict[str, str], total: int, max_bad: float) -> None:
    """Raise :class:`UserError` if more than the share ``max_bad`` of ``total`` images failed."""
    if len(bad) <= max_bad * total:
        return
    shown = some([f"{name} ({reason})" for name, reason in sorted(bad.items())])
    raise UserError(
        f"{len(bad)} of {total} images could not be decoded: {shown}. "
        f"dataset.max_bad: {max_bad:g} allows {int(max_bad * total)}. Repair or remove these "
        "files, or raise max_bad."
    )


class BadImages:
    """Counts, over all workers, the images that cannot be decoded; an actor on the cluster."""

    def __init__(self, total: int, max_bad: float) -> None:
        self._total, self._max_bad = total, max_bad
        self._found: dict[str, str] = {}

    def add(self, name: str, reason: str) -> None:
        """Count one image; a repeated task adds nothing."""
        self._found[name] = reason
        check_bad(self._found, self._total, self._max_bad)

    def found(self) -> dict[str, str]:
        """Return id to reason."""
        return self._found


class Skipped:
    """The images that could not be decoded so far, id to reason, here and on the workers."""

    def __init__(self) -> None:
        self._here: dict[str, str] = {}
        self.counter: Counter | None = None
        """The actor that counts them on the workers, once there is one."""

    def add(self, bad: dict[str, str]) -> None:
        """Record images that failed in this process."""
        self._here.update(bad)

    def reasons(self) -> dict[str, str]:
        """Return id to reason, sorted by id; asks the workers' counter if there is one."""
        if self.counter is not None:
            import ray

            self._here.update(ray.get(self.counter.found.remote()))
        return dict(sorted(self._here.items()))

    def __reduce__(self) -> tuple[type[Skipped], tuple[()]]:
        """Travel empty: what was skipped is known where the selection was made."""
        return Skipped, ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Selection:
    """Some images of a source, in a fixed order: all that reading and decoding them needs.

    Attributes:
        labels: ``int64`` [N], of the sample ids.
        max_bad: Share of the images that may fail to decode.
        skipped: Images that could not be decoded so far, with the reason.
    """

    ids: list[str]
    labels: Ints
    reader: Reader = field(repr=False)
    max_bad: float = 0.01
    skipped: Skipped = field(default_factory=Skipped, repr=False)

    def __len__(self) -> int:
        return len(self.ids)
