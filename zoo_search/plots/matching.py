"""A picture of a matching: both networks as columns of layers, and a line for every pair."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo_search.plots.style import FAINT, INK, PALETTE, new_figure, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from zoo_search.dpiat.standardize import Block
    from zoo_search.dpiat.transfer import MatchedNetworks

_GAP = 0.8  # between blocks, in layers
_WIDTH = 0.16  # of a column, where the two stand 1 apart
_INCHES = 0.075  # of one layer


def matching_picture(
    networks: MatchedNetworks, names: tuple[str, str] = ("source", "target")
) -> bytes:
    """Draw as PNG which source layer fills which target layer (as the paper's Figure 2).

    The first layers are at the top. A box is a block and a stripe in it a layer, in the colour of
    its type, grey where it takes no part; the fainter a line, the lower the score of its pair.
    """
    columns, matches = (networks.source, networks.target), networks.found.matches
    places = tuple(_places(blocks) for blocks in columns)
    height = max(max(column.values(), default=0.0) for column in places) + 1
    figure, axes = new_figure(7.2, min(80.0, max(3.0, _INCHES * height + 0.8)))
    kinds = Counter(layer.kind for blocks in columns for block in blocks for layer in block)
    colours = dict(zip((kind for kind, _ in kinds.most_common()), PALETTE, strict=False))
    for pair in matches:
        axes.plot(
            (_WIDTH / 2, 1 - _WIDTH / 2),
            (places[0][id(pair.source)] + 0.5, places[1][id(pair.target)] + 0.5),
            color=colours.get(pair.target.kind, INK),
            alpha=0.15 + 0.85 * pair.score,
            linewidth=0.8,
        )
    used = {id(m.source) for m in matches} | {id(m.target) for m in matches}
    for side in (0, 1):
        _draw_column(axes, columns[side], places[side], side, used, colours)
        count = f"{sum(map(len, columns[side]))} layers in {len(columns[side])} blocks"
        axes.text(side, -1.2, f"{names[side]}\n{count}", ha="center", va="bottom")
    for kind, colour in colours.items():
        axes.plot([], [], color=colour, linewidth=4, label=kind)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, frameon=False, fontsize=7)
    axes.set(xlim=(-0.75, 1.75), ylim=(height, -4))
    axes.axis("off")
    return render(figure, "png")


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
        names = zip(*(layer.name.split(".") for layer in block), strict=False)
        common = itertools.takewhile(lambda parts: len(set(parts)) == 1, names)
        axes.add_patch(
            Rectangle((left, top), _WIDTH, len(block), fill=False, edgecolor=INK, linewidth=0.6)
        )
        axes.text(
            left - 0.03 if side == 0 else left + _WIDTH + 0.03,
            top + len(block) / 2,
            ".".join(parts[0] for parts in common),
            ha="right" if side == 0 else "left",
            va="center",
            fontsize=5 if len(block) == 1 else 6,
        )
