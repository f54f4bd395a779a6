"""What an init hook is told, and what it may tell."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, Self, TypeVar

from torch import Tensor, nn

HookRole = Literal["zoo", "plain", "candidate", "variant"]
"""What a module is that hooks are called on, see :class:`Context`."""
ROLES: tuple[HookRole, ...] = typing.get_args(HookRole)

Facts = Mapping[str, Any]
"""JSON-like facts by name."""

Block = TypeVar("Block", contravariant=True)


class Fitter(Protocol[Block]):
    """What a hook may ask of what is known about the zoo's models on the target images.

    A candidate's blocks are those of ``module.recipe.blocks``
    (:class:`zoo_search.networks.fitter.StitchFitter` answers).
    """

    def keeping(self, power: float) -> Self:
        """Return what fits stitches that keep more of their targets' spread (1: least squares)."""
        ...

    def stitch(self, prefix: tuple[Block, ...], after: Block) -> nn.Module:
        """Return the fitted stitch between the last of ``prefix`` and ``after`` (not a copy)."""

    def quality(self, prefix: tuple[Block, ...], after: Block) -> float:
        """Return the R² of that stitch, on images held out of its fit."""

    def own(self, model: str, cut: int) -> Sequence[Tensor]:
        """Return the activation of a zoo model at a cut, a tensor a batch."""

    def prefix(self, blocks: tuple[Block, ...]) -> Sequence[Tensor]:
        """Return what the blocks with fitted stitches between them give, a tensor a batch."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a network that has no pre-trained weights; a hook fills its module in place."""

    name: str
    """Dotted name inside the network; empty for the whole network."""
    module: nn.Module
    donors: Mapping[str, nn.Module] = field(default_factory=dict)
    """Networks that can give weights, by what they are called in the report."""

    def tensors(self) -> dict[str, Tensor]:
        """Return its parameters and persistent buffers by their names inside the network."""
        prefix = f"{self.name}." if self.name else ""
        return {prefix + name: tensor for name, tensor in self.module.state_dict().items()}


@dataclass(frozen=True, eq=False)
class Context:
    """What a hook is told besides the module."""

    role: HookRole
    """What the module is: ``"zoo"``, a model of the zoo without weights; ``"plain"``, a plain
    architecture that is only fine-tuned; ``"candidate"``, a reassembled network (its stitches and
    its head are new); ``"variant"``, a changed winner."""
    name: str
    """The model's name, the recipe, or the variant's name."""
    pieces: tuple[Piece, ...]
    """What has no pre-trained weights: seeded random values, or what the hooks before have left
    there. A hook may change these, and nothing else."""
    seed: int = 0
    """For whatever the hook draws."""
    options: Facts = field(default_factory=dict)
    """Those of this hook in the run file."""
    inputs: Callable[[], Tensor] | None = None
    """Gives a few hundred target images ``[N, C, H, W]`` as the module takes them, or None where
    there are no images (models of the zoo are filled before images are read)."""
    labels: Tensor | None = None
    """Class indices ``[N]`` of these images, or None; they are not given while candidates are
    scored, where heads stay as they are."""
    fitter: Fitter[Any] | None = None
    """Fits stitches of this zoo on these images."""
    class_weights: Tensor | None = None
    """How much an image of each class counts, float ``[classes]``; None: all classes alike."""

    @cached_property
    def fresh(self) -> dict[str, Tensor]:
        """All parameters and persistent buffers without pre-trained weights, by name."""
        return {
            f"{piece.name}.{name}" if piece.name else name: tensor
            for piece in self.pieces
            for name, tensor in piece.module.state_dict().items()
        }


@dataclass(frozen=True)
class Filled:
    """What a hook may return: facts for the report, and what follows from what it did."""

    facts: Facts = field(default_factory=dict)
    """JSON-like, such as where the weights came from."""
    fitted: bool = False
    """Whether the values suit the target's own images, so that FROZEN-TUNING should take small
    steps and not wash them away."""
    donors: Sequence[str] = ()
    """The donors, by their names in :attr:`Piece.donors`, that values were taken from. A model of
    the zoo comes under their licence then, and expects the images that the last of them expects."""
    summary: str = ""
    """What it did, in a few words for people."""
    kept: bool = False
    """Whether values that did not change are a choice, and nothing was left out."""
