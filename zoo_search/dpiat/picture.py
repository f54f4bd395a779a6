"""A picture of a matching: both networks as columns of layers, and a line for every pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import nn

from zoo_search.dpiat.matching import Matching
from zoo_search.dpiat.standardize import Block, standardize
from zoo_search.dpiat.transfer import match_by_name
from zoo_search.drawing import FAINT, INK, PALETTE, Format, new_figure, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["matching_picture"]

_GAP = 0.8  # between blocks, in layers
_WIDTH = 0.16  # of a column, where the two stand 1 apart
_INCHES = 0.075  # of one layer


def matching_picture(
    source: nn.Module,
    target: nn.Module,
    matching: str = "dp",
    seed: int = 0,
    names: tuple[str, str] = ("source", "target"),
    form: Format = "png",
) -> bytes:
    """Draw which source layer fills which target layer, block by block (as the paper's Figure 2).

    The first layers are at the top. A box is a block and a stripe in it a layer, in the colour of
    its type, grey where it takes no part; the fainter a line, the lower the score of its pair.

    Args:
        source: The network with the weights, on any device (meta too).
        target: The network to fill, on any device.
        matching: Name of the matching operator.
        seed: For random matching.
        names: What to write above the two columns.
        form: ``svg`` or ``png``.

    Raises:
        UserError: If the operator is unknown, or a network cannot be matched.
    """
    columns = standardize(source), standardize(target)
    matched = match_by_name(matching, columns[1], columns[0], seed)
    places = tuple(_places(blocks) for blocks in columns)
    height = max(max(column.values(), default=0.0) for column in places) + 1
    figure, axes = new_figure(7.2, min(80.0, max(3.0, _INCHES * height + 0.8)))
    colours = _colours(columns)
    _draw_lines(axes, matched, places, colours)
    used = {id(m.source) for m in matched.matches} | {id(m.target) for m in matched.matches}
    for side in (0, 1):
        _draw_column(axes, columns[side], places[side], side, used, colours)
        count = f"{sum(map(len, columns[side]))} layers in {len(columns[side])} blocks"
        axes.text(side, -1.2, f"{names[side]}\n{count}", ha="center", va="bottom")
    for kind, colour in colours.items():
        axes.plot([], [], color=colour, linewidth=4, label=kind)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, frameon=False, fontsize=7)
    axes.set(xlim=(-0.75, 1.75), ylim=(height, -4))
    axes.axis("off")
    return render(figure, form)


def _places(blocks: Sequence[Block]) -> dict[int, float]:
    """Where each layer begins, in layers from the top, by the layer's id."""
    places: dict[int, float] = {}
    y = 0.0
    for block in blocks:
        for layer in block:
            places[id(layer)] = y
            y += 1
        y += _GAP
    return places


def _colours(columns: Sequence[Sequence[Block]]) -> Mapping[str, str]:
    """The most frequent types in colours, as many as there are."""
    counts: dict[str, int] = {}
    for layer in (x for blocks in columns for block in blocks for x in block):
        counts[layer.kind] = counts.get(layer.kind, 0) + 1
    ranked = sorted(counts, key=lambda kind: -counts[kind])
    return dict(zip(ranked, PALETTE, strict=False))


def _draw_lines(
    axes: Axes,
    matched: Matching,
    places: Sequence[Mapping[int, float]],
    colours: Mapping[str, str],
) -> None:
    for pair in matched.matches:
        ends = places[0][id(pair.source)] + 0.5, places[1][id(pair.target)] + 0.5
        axes.plot(
            (_WIDTH / 2, 1 - _WIDTH / 2),
            ends,
            color=colours.get(pair.target.kind, INK),
            alpha=0.15 + 0.85 * pair.score,
            linewidth=0.8,
        )


def _draw_column(
    axes: Axes,
    blocks: Sequence[Block],
    places: Mapping[int, float],
    side: int,
    used: set[int],
    colours: Mapping[str, str],
) -> None:
    """One network: its layers, its blocks around them, and the blocks' names."""
    from matplotlib.patches import Rectangle

    left = side - _WIDTH / 2
    for block in blocks:
        top = places[id(block[0])]
        for layer in block:
            colour = colours.get(layer.kind, INK) if id(layer) in used else FAINT
            corner = left, places[id(layer)] + 0.08
            axes.add_patch(Rectangle(corner, _WIDTH, 0.84, facecolor=colour, edgecolor="none"))
        axes.add_patch(
            Rectangle((left, top), _WIDTH, len(block), fill=False, edgecolor=INK, linewidth=0.6)
        )
        axes.text(
            left - 0.03 if side == 0 else left + _WIDTH + 0.03,
            top + len(block) / 2,
            _name(block),
            ha="right" if side == 0 else "left",
            va="center",
            fontsize=5 if len(block) == 1 else 6,
        )


def _name(block: Block) -> str:
    """The dotted name that the layers of a block have in common."""
    if len(block) == 1:
        return block[0].name
    common: list[str] = []
    for parts in zip(*(layer.name.split(".") for layer in block), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)
