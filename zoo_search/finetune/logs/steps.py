"""The one axis of a curve: epochs, counted on over the protocols of a training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo_search.core.store import RunStore


@dataclass(frozen=True)
class _Span:
    """Where a protocol lies on the axis: its epoch ``n`` is step ``before + n``."""

    before: int
    last: int  # step of its last epoch so far
    told: bool = False  # its result has been logged


class Steps:
    """Steps of a training, kept in the run directory for the case that it goes on after a kill.

    Attributes:
        known: Whether steps of the same training were found.
    """

    def __init__(self, store: RunStore, name: str, key: str) -> None:
        self._store, self._name, self._key = store, name, key
        self._spans: dict[str, _Span] = {}
        self.known = False
        try:
            kept = store.kept(name)
            if kept is not None and kept["key"] == key:
                self._spans = {p: _Span(**span) for p, span in kept["protocols"].items()}
                self.known = True
        except (OSError, ValueError, TypeError, KeyError):
            pass  # none, or none of use

    def epoch(self, protocol: str, number: int) -> int:
        """Return the step of an epoch (from 1) of a protocol; what came after it is forgotten."""
        end = max((span.last for span in self._spans.values()), default=0)
        before = self._spans[protocol].before if protocol in self._spans else end
        step = before + number
        earlier = {p: span for p, span in self._spans.items() if span.last < step and p != protocol}
        self._spans = {**earlier, protocol: _Span(before, step)}
        return step

    def result(self, protocol: str) -> int | None:
        """Return the step of a protocol's result, that of its last epoch; None if it is logged."""
        span = self._spans.get(protocol) or _Span(0, 0)
        self._spans[protocol] = replace(span, told=True)
        return None if span.told else span.last

    def save(self) -> None:
        """Keep the steps for a later training; raises OSError if they cannot be written."""
        spans = {protocol: asdict(span) for protocol, span in self._spans.items()}
        self._store.keep(self._name, {"key": self._key, "protocols": spans})
