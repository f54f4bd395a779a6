"""What an init hook is told, and what it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from zoo_search.config import HookRole

if TYPE_CHECKING:
    from zoo_search.reassembly.features import StitchFitter

__all__ = ["Context", "Filled", "HookReport", "Piece"]


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a network that has no pre-trained weights.

    Attributes:
        name: Dotted name inside the network; empty for the whole network.
        module: The part itself; a hook fills it in place.
        donors: Networks that can give weights, by what they are called in the report.
    """

    name: str
    module: nn.Module
    donors: Mapping[str, nn.Module] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """Return its parameters and persistent buffers by their names inside the network."""
        prefix = f"{self.name}." if self.name else ""
        return {prefix + name: tensor for name, tensor in self.module.state_dict().items()}


@dataclass(frozen=True, eq=False)
class Context:
    """What a hook is told besides the module.

    Attributes:
        role: What the module is: ``"zoo"``, a model of the zoo without weights; ``"plain"``, a
            plain architecture that is only fine-tuned; ``"candidate"``, a reassembled network (its
            stitches and its head are new); ``"variant"``, a changed winner.
        name: The model's name, the recipe, or the variant's name.
        pieces: What has no pre-trained weights. It holds seeded random values, or what the hooks
            before have left there. A hook may change these, and nothing else.
        seed: Seed for whatever the hook draws.
        options: The options of this hook in the run file.
        inputs: Gives a few hundred target images ``[N, C, H, W]`` as the module takes them, or
            None where there are no images (models of the zoo are filled before images are read).
        labels: Class indices ``[N]`` of these images, or None; they are not given while candidates
            are scored, where heads stay as they are.
        fitter: Fits stitches of this zoo on these images, or None.
    """

    role: HookRole
    name: str
    pieces: tuple[Piece, ...]
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Callable[[], Tensor] | None = None
    labels: Tensor | None = None
    fitter: StitchFitter | None = None

    @cached_property
    def fresh(self) -> dict[str, Tensor]:
        """All parameters and persistent buffers without pre-trained weights, by name."""
        return {name: t for piece in self.pieces for name, t in piece.tensors().items()}


@dataclass(frozen=True)
class Filled:
    """What a hook may return: facts for the report.

    Attributes:
        facts: JSON-like facts, such as where the weights came from.
        fitted: Whether the values suit the target's own images, so that FROZEN-TUNING should
            take small steps and not wash them away.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    fitted: bool = False


@dataclass(frozen=True)
class HookReport:
    """What one hook did to one module.

    Attributes:
        hook: Its name.
        role: What the module was.
        values: Values (numbers) without pre-trained weights.
        changed: How many of them differ from before the hook.
        fitted: See :class:`Filled`.
        seconds: How long it took.
        facts: What the hook told.
        name: What it was called on: a model's or a variant's name, or a recipe.
    """

    hook: str
    role: HookRole
    values: int
    changed: int
    fitted: bool
    seconds: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**vars(self), "facts": dict(self.facts)}

    @property
    def line(self) -> str:
        """A line for people, among those on the network that the model is a part of."""
        return f"its part {self.name}: {self}" if self.role == "zoo" else str(self)

    def __str__(self) -> str:
        """A line for people."""
        words = f"{self.hook}, {self.changed:,} of {self.values:,} values changed"
        if self.hook == "dpiat":
            parts = self.facts.get("pieces", [self.facts])
            given = [_words(part) for part in parts if part.get("source")]
            return f"dpiat from {'; '.join(given)}" if given else words
        if self.hook == "least_squares" and self.facts.get("r2"):
            r2 = ("unknown" if x is None else f"{x:.2f}" for x in self.facts["r2"])
            return f"{words}, R² of the stitches {', '.join(r2)}"
        if self.hook == "random" and not self.changed:
            return f"random, all {self.values:,} values as they were drawn from the seed"
        return words


def _words(part: Mapping[str, Any]) -> str:
    """Say where a piece got its values from."""
    words = str(part["source"])
    if "similarity" in part:
        words += f" (similarity {part['similarity']:.3f})"
    if "coverage" in part:
        words += f", {100 * part['coverage']:.0f} % of {part.get('piece') or 'the values'}"
    return words
