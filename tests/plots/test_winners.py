"""The pictures of fine-tuned networks, by what is drawn."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
from matplotlib.axes import Axes

from zoo_search.plots import winners
from zoo_search.plots.winners import Drawn, Piece, Point


def test_accuracies_stand_at_their_cost_with_their_intervals(
    drawn: Callable[[ModuleType], list[Axes]],
) -> None:
    axes = drawn(winners)
    winners.accuracy_picture(
        [
            Point("r1", "reassembly", "reassembly", 30_000_000, 0.95, 0.93, 0.97, best=True),
            Point("a", "single", "single model", 10_000_000, 0.9, 0.9, 0.9, best=False),
            Point("b", "single", "single model", 20_000_000, 0.8, 0.7, 0.9, best=True),
        ]
    )
    (panel,) = axes
    dots = [bars.lines[0] for bars in panel.containers]
    assert [(d.get_xdata()[0], round(float(d.get_ydata()[0]), 6)) for d in dots] == [
        (30, 95), (10, 90), (20, 80),
    ]  # fmt: skip
    reach = [bars.lines[2][0].get_segments()[0][:, 1].tolist() for bars in panel.containers]
    assert reach == [pytest.approx([93, 97]), pytest.approx([90, 90]), pytest.approx([70, 90])]
    assert [d.get_markerfacecolor() == "white" for d in dots] == [False, True, False]
    assert [text.get_text() for text in panel.texts] == ["r1", "a", "b"]
    legend = panel.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["reassembly", "single model"]


def test_no_name_stands_over_another(drawn: Callable[[ModuleType], list[Axes]]) -> None:
    axes = drawn(winners)
    costs = [16.2, 3.7, 25.0, 30.3, 21.2, 24.4, 16.0, 16.4]
    told = [0.961, 0.943, 0.96, 0.969, 0.929, 0.793, 0.96, 0.962]
    names = [f"random recipe {n}" for n in range(len(costs))]
    winners.accuracy_picture(
        [
            Point(
                name, "random", "random recipe", int(1e6 * cost), t, t - 0.02, t + 0.02, best=True
            )
            for name, cost, t in zip(names, costs, told, strict=True)
        ]
    )
    (panel,) = axes
    assert [text.get_text() for text in panel.texts] == names
    boxes = [text.get_window_extent() for text in panel.texts]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:place])
        assert panel.bbox.x0 <= box.x0
        assert box.x1 <= panel.bbox.x1


def test_blocks_are_as_long_as_they_cost_and_stitches_stand_where_models_change(
    drawn: Callable[[ModuleType], list[Axes]],
) -> None:
    axes = drawn(winners)
    colours = {"a": "#112233", "b": "#445566"}
    mixed = (Piece("a", 0, 2, 30), Piece("b", 2, 4, 10), Piece("b", 4, 6, 40), Piece("b", 7, 8, 20))
    winners.networks_picture(
        [Drawn("r1", "95 %", mixed), Drawn("b", "90 %", (Piece("b", 0, 8, 50),))], colours
    )
    (panel,) = axes
    bars = [bar for container in panel.containers for bar in container]
    blocks = [
        bar
        for bar in bars
        if bar.get_height() == 0.5 and abs(bar.get_width() - winners._HEAD) > 1e-9
    ]
    stitches = [bar for bar in bars if bar.get_height() != 0.5]
    assert [round(bar.get_width(), 6) for bar in blocks] == [0.3, 0.1, 0.4, 0.2, 0.5]
    # From a to b, and from b 6 to b 7; b 4 goes on from where b 2-4 ended.
    assert len(stitches) == 2
    assert blocks[0].get_x() + 0.3 < stitches[0].get_x() < blocks[1].get_x()
    assert blocks[2].get_x() == pytest.approx(blocks[1].get_x() + 0.1)
    assert blocks[2].get_x() + 0.4 < stitches[1].get_x() < blocks[3].get_x()
    said = [text.get_text() for text in panel.texts]
    assert said == ["r1", "95 %", "a 0–2", "b 2–4", "b 4–6", "b 7–8", "b", "90 %", "b 0–8"]
