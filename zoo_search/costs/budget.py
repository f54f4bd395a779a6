"""What a network costs, and the limits on it (DeRy Eq. 9)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Measure = Literal["latency", "memory"]
"""Costs that are measured, and only where they are asked for."""

Additive = Literal["params", "macs", "latency"]
"""Costs of a network that are sums over its blocks, stitches and head."""

What = Literal["params", "macs", "latency", "memory"]
"""The parts of a cost."""

MEASURES: tuple[Measure, ...] = ("latency", "memory")

NANOSECONDS = 1_000_000
"""In a millisecond."""


@dataclass(frozen=True)
class Cost:
    """What a network, or a part of one, costs.

    Attributes:
        params: Parameters.
        macs: Multiply-adds (MACs) for one image.
        latency: Milliseconds for one batch, to the nanosecond; None where not asked for.
        memory: Peak activation memory for one image in fp32, in bytes; None where not asked for.
    """

    params: int
    macs: int
    latency: float | None = None
    memory: int | None = None

    def __add__(self, other: Cost) -> Cost:
        """Return the cost of one part after the other: sums, and the larger of two peaks."""
        latency = memory = None
        if self.latency is not None and other.latency is not None:
            latency = round((self.latency + other.latency) * NANOSECONDS) / NANOSECONDS
        if self.memory is not None and other.memory is not None:
            memory = max(self.memory, other.memory)
        return Cost(self.params + other.params, self.macs + other.macs, latency, memory)

    def __str__(self) -> str:
        text = f"{self.params / 1e6:.3g} M parameters, {self.macs / 1e9:.3g} GMACs"
        if self.latency is not None:
            text += f", {self.latency:.3g} ms"
        if self.memory is not None:
            text += f", {self.memory / 1e6:.3g} MB of activations"
        return text


@dataclass(frozen=True)
class Limit:
    """Limits on one cost in whole units: parameters, MACs, nanoseconds or bytes; ends included."""

    what: What
    low: int
    high: int | None


@dataclass(frozen=True)
class Budget:
    """Limits on a network, both ends included. MACs are multiply-adds for one image.

    The paper's and timm's "GFLOPs" are multiply-adds / 1e9 as well.

    Attributes:
        max_params: Parameters at most.
        max_macs: MACs at most.
        min_params: Parameters at least.
        min_macs: MACs at least.
        max_latency_ms: Milliseconds for a batch at most.
        max_memory: Bytes of peak activation memory for one image in fp32, at most.
        licenses: Licences that blocks may come under, in upper or lower case; None: any. A model
            whose licence is not known is left out where there is a list.
    """

    max_params: float | None = None
    max_macs: float | None = None
    min_params: float = 0
    min_macs: float = 0
    max_latency_ms: float | None = None
    max_memory: float | None = None
    licenses: tuple[str, ...] | None = None

    @property
    def measures(self) -> frozenset[Measure]:
        """What has to be measured to tell whether a network is within the limits."""
        limited = {limit.what for limit in self.limits}
        return frozenset(what for what in MEASURES if what in limited)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits that there are, in whole units, rounded so that nothing changes."""
        given = (
            Limit("params", math.ceil(self.min_params), _floor(self.max_params)),
            Limit("macs", math.ceil(self.min_macs), _floor(self.max_macs)),
            Limit("latency", 0, _nanoseconds(self.max_latency_ms)),
            Limit("memory", 0, _floor(self.max_memory)),
        )
        return tuple(limit for limit in given if limit.low > 0 or limit.high is not None)

    def licensed(self, license: str | None) -> bool:
        """Return whether blocks of a model under this licence (None: not known) may be taken."""
        if self.licenses is None:
            return True
        allowed = {name.strip().casefold() for name in self.licenses}
        return license is not None and license.strip().casefold() in allowed

    def admits(self, cost: Cost) -> bool:
        """Return whether a cost is within the limits."""
        return self.excess(cost) == 0

    def excess(self, cost: Cost) -> float:
        """Return by how much a cost breaks the limits: a sum of shares of the limits, 0 if none."""
        total = 0.0
        for limit in self.limits:
            value = units(cost, limit.what)
            if limit.high is not None and value > limit.high:
                total += value / max(limit.high, 1) - 1 if limit.high else float(value)
            if value < limit.low:
                total += 1 - value / limit.low
        return total

    def __str__(self) -> str:
        parts = [
            f"{name} {sign} {value:g}{unit}"
            for name, sign, value, unit in (
                ("parameters", ">=", self.min_params or None, ""),
                ("parameters", "<=", self.max_params, ""),
                ("MACs", ">=", self.min_macs or None, ""),
                ("MACs", "<=", self.max_macs, ""),
                ("latency", "<=", self.max_latency_ms, " ms"),
                ("peak activation memory", "<=", self.max_memory, " bytes"),
            )
            if value is not None
        ]
        if self.licenses is not None:
            parts.append(f"licences {' or '.join(self.licenses) or '(none)'}")
        return ", ".join(parts) or "no limits"


def units(cost: Cost, what: What) -> int:
    """Return one part of a cost in whole units: parameters, MACs, nanoseconds or bytes.

    Raises:
        ValueError: If the cost does not say.
    """
    value = getattr(cost, what)
    if value is None:
        raise ValueError(f"{what} of this cost was not measured; ask the cost table for it")
    return round(value * NANOSECONDS) if what == "latency" else int(value)


def _floor(value: float | None) -> int | None:
    return None if value is None else math.floor(value)


def _nanoseconds(limit: float | None) -> int | None:
    """Return the most whole nanoseconds that are, as milliseconds in a float, within a limit.

    A product with a million alone may round to one nanosecond less than a limit that is itself a
    latency, or to one more.
    """
    if limit is None:
        return None
    near = int(limit * NANOSECONDS)
    return max(n for n in (near - 1, near, near + 1) if n / NANOSECONDS <= limit)
