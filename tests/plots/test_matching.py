"""The picture of a matching, by what is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import ModuleType

from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from torch import nn

from zoo_search.dpiat import match_layers
from zoo_search.plots import matching
from zoo_search.plots.style import FAINT, PALETTE


def test_a_box_for_every_layer_a_frame_for_every_block_a_line_for_every_pair(
    drawn: Callable[[ModuleType], list[Axes]],
) -> None:
    """Two convolutions and two linear layers are pairs; the rest takes no part and is grey."""
    source = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8, 10))
    target = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(6, 10), nn.LayerNorm(10))
    axes = drawn(matching)
    matching.matching_picture(match_layers(source, target), ("giver", "taker"))
    boxes = Counter(to_hex(box.get_facecolor()) for box in axes[0].patches if box.get_fill())
    assert boxes == {PALETTE[0]: 2, PALETTE[1]: 2, FAINT: 2}
    frames = [box for box in axes[0].patches if not box.get_fill()]
    assert len(frames) == 6  # each layer of these is a block of its own
    pairs = [to_hex(line.get_color()) for line in axes[0].lines if len(line.get_xdata()) == 2]
    assert sorted(pairs) == sorted(PALETTE[:2])
    kinds = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert kinds == ["conv2d", "linear", "layer_norm"]  # the most frequent first
    words = [text.get_text() for text in axes[0].texts]
    assert {"giver\n3 layers in 3 blocks", "taker\n3 layers in 3 blocks"} <= set(words)


def test_it_is_a_png_the_same_each_time() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    one, two = (matching.matching_picture(match_layers(net, net)) for _ in range(2))
    assert one.startswith(b"\x89PNG")
    assert one == two
