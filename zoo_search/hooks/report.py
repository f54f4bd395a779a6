"""What a hook did, as it is kept with a model, a candidate or a winner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from zoo_search.hooks.context import Facts, HookRole


@dataclass(frozen=True)
class HookReport:
    """What one hook did to one module, and what it told (:class:`~.context.Filled`)."""

    hook: str
    role: HookRole
    values: int
    """Number of values without pre-trained weights."""
    changed: int
    """How many of them differ from before the hook."""
    fitted: bool
    seconds: float
    facts: Facts = field(default_factory=dict)
    name: str = ""
    """What it was called on: a model's or a variant's name, or a recipe."""
    donors: tuple[str, ...] = ()
    summary: str = ""
    kept: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "donors": list(self.donors)}

    @classmethod
    def from_dict(cls, report: Facts) -> HookReport:
        """Read what :meth:`to_dict` gave, in this version or in one before ``summary``."""
        told = {**(_from_facts(report) if "summary" not in report else {}), **report}
        return cls(**{**told, "donors": tuple(told["donors"])})

    @property
    def line(self) -> str:
        """A line for people, among those on the network that the model is a part of."""
        return f"its part {self.name}: {self}" if self.role == "zoo" else str(self)

    def __str__(self) -> str:
        """A line for people."""
        if self.donors:
            return f"{self.hook} from {self.summary or '; '.join(self.donors)}"
        if self.kept and not self.changed:
            return f"{self.hook}, all {self.values:,} values as they were drawn from the seed"
        words = f"{self.hook}, {self.changed:,} of {self.values:,} values changed"
        return f"{words}, {self.summary}" if self.summary else words


def describe_donors(parts: Sequence[Facts]) -> tuple[tuple[str, ...], str]:
    """Return the donors of pieces that took values from one, and a summary for people.

    Of a piece ``source`` names the donor (None: there was none); ``similarity`` and ``coverage`` in
    [0, 1] and the name ``piece`` are told where they are given.
    """
    given = [part for part in parts if part.get("source")]
    words = []
    for part in given:
        said = str(part["source"])
        if "similarity" in part:
            said += f" (similarity {part['similarity']:.3f})"
        if "coverage" in part:
            said += f", {100 * part['coverage']:.0f} % of {part.get('piece') or 'the values'}"
        words.append(said)
    return tuple(part["source"] for part in given), "; ".join(words)


def _from_facts(report: Facts) -> Facts:
    """Return donors and summary of a report by a version that kept them among the facts alone."""
    hook, facts = report["hook"], report["facts"]
    donors: tuple[str, ...] = ()
    summary = ""
    if hook == "dpiat":
        donors, summary = describe_donors(facts.get("pieces", [facts]))
    elif hook == "least_squares" and facts.get("r2"):
        r2 = ("unknown" if x is None else f"{x:.2f}" for x in facts["r2"])
        summary = f"R² of the stitches {', '.join(r2)}"
    return {"donors": donors, "summary": summary, "kept": hook == "random"}
