"""The line graph of a model: an ordered list of nodes whose composition is the model.

See ``docs/design.md``, "Line graphs", and DeRy section 3.1: a model is
``F(1) ∘ F(2) ∘ … ∘ F(L)``, a path graph of atomic nodes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

Layout = Literal["nchw", "nhwc", "tokens", "windows"]


@dataclass(frozen=True)
class Cut:
    """A point between two nodes: cut 0 is the image, cut ``i`` the output of node ``i - 1``.

    Attributes:
        index: Position in the line graph, ``0 .. L``.
        name: ``"image"`` for cut 0, else the name of the node that ends here.
        layout: ``"nchw"``, ``"nhwc"``, ``"tokens"`` (``[B, prefix + H*W, C]``) or ``"windows"``
            (``[B, windows, H*W / windows, C]``).
        channels: C.
        grid: ``(H, W)`` at the traced input size.
        prefix_tokens: Tokens that stand before the grid (class, distillation, register tokens).
        windows: Number of windows in layout ``"windows"``.
        order: Where tokens do not come in raster order: the raster index of each token.
        streams: How many tensors of the model are packed into the one at this cut.
    """

    index: int
    name: str
    layout: Layout
    channels: int
    grid: tuple[int, int]
    prefix_tokens: int = 0
    windows: int = 1
    order: tuple[int, ...] | None = field(default=None, repr=False)
    streams: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor at this cut, without the batch dimension."""
        height, width = self.grid
        if self.layout == "nchw":
            return (self.channels, height, width)
        if self.layout == "nhwc":
            return (height, width, self.channels)
        if self.layout == "windows":
            return (self.windows, height * width // self.windows, self.channels)
        return (self.prefix_tokens + height * width, self.channels)


@dataclass(frozen=True, eq=False)
class Node:
    """One atomic step of a line graph; calling it runs its module.

    Attributes:
        index: Position in the line graph, ``0 .. L - 1``.
        name: Path of the author's module that the node ends with, such as ``layer1.0``.
        module: Takes the tensor at cut ``index`` and gives the tensor at cut ``index + 1``.
        params: Parameters that are first used in this node.
        macs: Multiply-adds for one image at the traced input size.
    """

    index: int
    name: str
    module: nn.Module
    params: int
    macs: int

    def __call__(self, x: Tensor) -> Tensor:
        """Run the node's module on the tensor at its first cut."""
        out: Tensor = self.module(x)
        return out


@dataclass(frozen=True)
class NotACut:
    """A place between two of the author's blocks that is no cut, and why."""

    after: str
    reason: str


@dataclass(eq=False)
class LineGraph:
    """A model as an ordered list of nodes and a head, cut at ``len(nodes) + 1`` points.

    ``nodes[-1](… nodes[0](x))`` equals the model's own features, and ``head`` of that equals
    the model's output, to the last bit in eval mode on the CPU.

    Attributes:
        name: Name of the model.
        input_size: ``(C, H, W)`` that the model was traced with.
        nodes: The nodes, in order.
        cuts: ``len(nodes) + 1`` cuts; ``cuts[i]`` goes into node ``i``.
        head: What follows the last node: pooling, classifier. ``nn.Identity`` if there is none.
        head_params: Parameters of the head.
        head_macs: Multiply-adds of the head for one image.
        refused: Places between blocks that are no cut, with the reason.
    """

    name: str
    input_size: tuple[int, int, int]
    nodes: tuple[Node, ...]
    cuts: tuple[Cut, ...]
    head: nn.Module
    head_params: int
    head_macs: int
    refused: tuple[NotACut, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @property
    def params(self) -> int:
        """Parameters of the whole model."""
        return sum(node.params for node in self.nodes) + self.head_params

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole model for one image."""
        return sum(node.macs for node in self.nodes) + self.head_macs

    def block(self, start: int, stop: int) -> nn.Module:
        """Return the block ``[start, stop)`` as a module of its own (a deep copy).

        Raises:
            ValueError: If ``0 <= start < stop <= len(self)`` does not hold.
        """
        if not 0 <= start < stop <= len(self.nodes):
            raise ValueError(
                f"{self.name} has {len(self.nodes)} nodes: a block [{start}, {stop}) needs "
                f"0 <= start < stop <= {len(self.nodes)}."
            )
        # One deep copy of all nodes together keeps parameters shared that nodes share.
        modules = copy.deepcopy([node.module for node in self.nodes[start:stop]])
        return nn.Sequential(*modules)

    def features(self, x: Tensor) -> Tensor:
        """Return the features that go into the head, for images ``x`` of shape ``[B, C, H, W]``."""
        for node in self.nodes:
            x = node(x)
        return x

    def activations(
        self, x: Tensor, at: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield ``(cut index, tensor)`` for the cuts ``at`` (default: all), in order."""
        wanted = set(range(len(self.cuts)) if at is None else at)
        if 0 in wanted:
            yield 0, x
        for node in self.nodes:
            x = node(x)
            if node.index + 1 in wanted:
                yield node.index + 1, x

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Return the model's own output for images ``x``."""
        out: Tensor = self.head(self.features(x))
        return out
