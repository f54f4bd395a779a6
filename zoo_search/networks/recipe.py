"""A reassembled network on paper: blocks of zoo models in order, and the head on top."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import yaml

from zoo_search.core import files
from zoo_search.core.errors import UserError, nearest
from zoo_search.core.identity import fingerprint
from zoo_search.core.yaml_text import read_yaml
from zoo_search.networks.parents import Models, Parents

Head = Literal["target", "source"]
Taps = Literal["last", "blocks"]


class BlockDict(TypedDict):
    """A block in YAML and JSON."""

    model: str
    start: int
    stop: int


class RecipeDict(TypedDict):
    """A recipe in YAML and JSON."""

    blocks: list[BlockDict]
    head: Head
    taps: NotRequired[Taps]


@dataclass(frozen=True, order=True)
class BlockRef:
    """The nodes ``[start, stop)`` of one zoo model."""

    model: str
    start: int
    stop: int

    def precedes(self, other: BlockRef) -> bool:
        """Return whether ``other`` follows this block in their own model."""
        return self.model == other.model and self.stop == other.start

    @classmethod
    def end(cls, stage: int) -> BlockRef:
        """Return what stands at a stage behind the last block of a recipe: no block at all.

        It has no part in a :class:`Recipe`, and lets recipes of fewer blocks be written with one
        entry a stage, as samplers and the integer program want them.
        """
        return cls("", stage, stage)

    @property
    def is_end(self) -> bool:
        """Whether this is no block, but an end (:meth:`end`)."""
        return not self.model

    def __str__(self) -> str:
        return "end" if self.is_end else f"{self.model}[{self.start},{self.stop})"


Part = BlockRef | tuple[BlockRef, BlockRef]
"""A block, or a joint: the pair of blocks at it. The cost of a recipe is the sum of theirs.

Where recipes may end early, the pair of a last block and an end stands for the head on it."""


@dataclass(frozen=True)
class Recipe:
    """Blocks in order, from one up, and the head.

    Attributes:
        blocks: The first one starts at cut 0 of its model, the image.
        head: ``"target"`` is a pooled linear head for the target's classes; ``"source"`` keeps the
            head of the last block's model, so the last block has to end where that model ends.
        taps: What the target's head reads: ``"last"`` is what the last block gives, ``"blocks"``
            what every block gives, so that another cut of the same nodes is another network.
    """

    blocks: tuple[BlockRef, ...]
    head: Head = "target"
    taps: Taps = "last"

    @classmethod
    def from_any(cls, source: Recipe | Mapping[str, object] | RecipeDict | str | Path) -> Recipe:
        """Read a recipe from a mapping ``{blocks: [{model, start, stop}, …], head, taps}`` or YAML.

        The YAML lies at a path or an fsspec URI.

        Raises:
            UserError: If the file cannot be read or the mapping is no recipe.
        """
        if isinstance(source, Recipe):
            return source
        if isinstance(source, Mapping):
            return _parse(source, "The recipe")
        path = os.fspath(source)
        try:
            text = files.read(path).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"The recipe {path} cannot be read ({reason}). Give a YAML file with the keys "
                "'blocks' and 'head'."
            ) from None
        _, data = read_yaml(text, f"The recipe {path}")
        if not isinstance(data, Mapping):
            raise UserError(f"The recipe {path} holds no mapping; it needs the key 'blocks'.")
        return _parse(data, f"The recipe {path}")

    @classmethod
    def whole(cls, model: str, nodes: int, head: Head = "target") -> Recipe:
        """Return the recipe that is the zoo model ``model`` of ``nodes`` nodes itself."""
        return cls((BlockRef(model, 0, nodes),), head)

    def to_dict(self) -> RecipeDict:
        """Return the recipe as plain lists and dicts, as :meth:`from_any` reads it."""
        blocks = [BlockDict(model=b.model, start=b.start, stop=b.stop) for b in self.blocks]
        plain = RecipeDict(blocks=blocks, head=self.head)
        return plain if self.taps == "last" else {**plain, "taps": self.taps}

    def to_yaml(self) -> str:
        """Return the recipe as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    @cached_property
    def runs(self) -> tuple[BlockRef, ...]:
        """The blocks with neighbours of one model merged: the same network in the fewest blocks."""
        return merge(self.blocks)

    @cached_property
    def key(self) -> str:
        """A hash of 16 hex digits that is equal for recipes of the same network.

        Blocks that are neighbours in their own model are merged first, so that a zoo model has
        one key, whichever way it is cut; but not where the head reads every block.
        """
        parts = self.blocks if self.tapped else self.runs
        own = [[[b.model, b.start, b.stop] for b in parts], self.head]
        return fingerprint([*own, self.taps] if self.tapped else own)[:16]

    @property
    def tapped(self) -> bool:
        """Whether the head reads more than the last block."""
        return self.taps == "blocks" and len(self.blocks) > 1

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that gave blocks, each once, in order of first use."""
        return tuple(dict.fromkeys(b.model for b in self.blocks))

    def check(self, zoo: Models) -> None:
        """Check the recipe against a zoo.

        Raises:
            UserError: If a model or a node does not exist, the first block does not start at the
                image, or the head is the source's and the last block ends before its model does or
                the head is to read every block.
        """
        if self.head == "source" and self.taps != "last":
            raise UserError(_taps_of_source("The recipe"))
        parents = Parents(zoo)
        for position, block in enumerate(self.blocks):
            where = f"Block {position} of the recipe, {block},"
            if block.model not in zoo:
                raise UserError(
                    f"{where} names a model that the zoo does not hold."
                    f"{nearest(block.model, zoo)} The zoo holds: {', '.join(zoo)}."
                )
            size = len(parents[block.model].graph)
            if not 0 <= block.start < block.stop <= size:
                raise UserError(
                    f"{where} does not fit: {block.model} has {size} nodes, so a block needs "
                    f"0 <= start < stop <= {size}."
                )
        first, last = self.blocks[0], self.blocks[-1]
        if first.start != 0:
            raise UserError(
                f"The first block of the recipe, {first}, starts at cut {first.start}; it takes "
                "the image, so it has to start at 0."
            )
        size = len(parents[last.model].graph)
        if self.head == "source" and last.stop != size:
            raise UserError(
                f"The recipe keeps the head of {last.model} (head: source), but its last block, "
                f"{last}, ends before the last of {size} nodes. End it at {size}, or take "
                "'head: target'."
            )

    def __str__(self) -> str:
        if self.tapped:
            return f"{' + '.join(map(str, self.blocks))} (head on all)"
        return " + ".join(map(str, self.runs))


def merge(blocks: Sequence[BlockRef]) -> tuple[BlockRef, ...]:
    """Return the blocks with neighbours of one model merged into one."""
    runs: list[BlockRef] = []
    for block in blocks:
        if runs and runs[-1].precedes(block):
            runs[-1] = BlockRef(block.model, runs[-1].start, block.stop)
        else:
            runs.append(block)
    return tuple(runs)


_KEYS = ("blocks", "head", "taps")


def _parse(data: Mapping[str, object], name: str) -> Recipe:
    for key in data:
        if key not in _KEYS:
            raise UserError(
                f"{name} has the unknown key '{key}'.{nearest(str(key), _KEYS)} "
                f"Allowed: {', '.join(_KEYS)}."
            )
    items = data.get("blocks")
    if not isinstance(items, Sequence) or isinstance(items, str) or not items:
        raise UserError(f"{name} needs 'blocks': a list of one or more {{model, start, stop}}.")
    head = data.get("head", "target")
    if head not in ("target", "source"):
        raise UserError(
            f"{name}: 'head' is {head!r}; allowed are 'target' (a new head for the target's "
            "classes) and 'source' (the head of the last block's model)."
        )
    taps = data.get("taps", "last")
    if taps not in ("last", "blocks"):
        raise UserError(
            f"{name}: 'taps' is {taps!r}; allowed are 'last' (the head reads what the last block "
            "gives) and 'blocks' (it reads what every block gives)."
        )
    if head == "source" and taps != "last":
        raise UserError(_taps_of_source(name))
    return Recipe(tuple(_parse_block(item, i, name) for i, item in enumerate(items)), head, taps)


def _taps_of_source(name: str) -> str:
    return (
        f"{name} keeps the source's head (head: source) and asks for one that reads every block "
        "(taps: blocks). The source's head takes what the last block gives: leave 'taps' out, or "
        "take 'head: target'."
    )


def _parse_block(item: object, position: int, name: str) -> BlockRef:
    keys = ("model", "start", "stop")
    if not isinstance(item, Mapping) or set(item) != set(keys):
        raise UserError(f"{name}: block {position} needs exactly the keys model, start, stop.")
    model, start, stop = (item[key] for key in keys)
    if not isinstance(model, str) or type(start) is not int or type(stop) is not int:
        raise UserError(
            f"{name}: block {position}: 'model' is a name, 'start' and 'stop' are whole numbers."
        )
    return BlockRef(model, start, stop)
