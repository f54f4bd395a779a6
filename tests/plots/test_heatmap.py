"""Heat maps: the picture's own pixels say what the table says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from zoo_search.core.errors import UserError
from zoo_search.plots.heatmap import heat_map, parse_pair
from zoo_search.similarities import ModelCuts, SimilarityTable


def make_table(**cuts: int) -> SimilarityTable:
    """Return a table whose pairs of cuts are the more alike the closer their relative depth."""
    models = {}
    for name, n in cuts.items():
        ones = [1] * (n - 1)
        models[name] = ModelCuts(["image", *(f"blocks.{i}" for i in range(n - 1))], ones, ones)
    depth = np.concatenate([np.linspace(0, 1, n) for n in cuts.values()])
    values = np.exp(-8 * (depth[:, None] - depth[None, :]) ** 2)
    np.fill_diagonal(values, 1)
    return SimilarityTable(models, values, {"metric": "cka"})


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def tile_of(picture: np.ndarray) -> np.ndarray:
    """Return the picture's tiles: what lies left of the first white column inside them."""
    coloured = (picture.max(axis=2) - picture.min(axis=2)) > 30
    dense = np.flatnonzero(coloured.mean(axis=1) > 0.3)
    rows = picture[dense[0] : dense[-1] + 1]
    columns = np.flatnonzero(coloured[dense[0] : dense[-1] + 1].mean(axis=0) > 0.95)
    stop = np.flatnonzero(np.diff(columns) > 5)
    last = columns[stop[0]] if len(stop) else columns[-1]
    return rows[:, columns[0] : last + 1]


def test_the_diagonal_of_a_pair_is_the_brightest() -> None:
    table = make_table(a=8, b=8)
    tile = tile_of(pixels(heat_map(table, ("a", "b"), "png")))
    middle = (np.arange(8) + 0.5) / 8
    rows, columns = (middle * len(tile)).astype(int), (middle * tile.shape[1]).astype(int)
    green = tile[rows][:, columns, 1]  # viridis: green rises with the value
    assert (green.argmax(axis=1) == np.arange(8)).all()
    assert (np.diff(green[0]) <= 0).all()


def test_every_cut_and_every_model_is_named() -> None:
    svg_of = {
        "zoo": heat_map(make_table(first=4, second=6)),
        "pair": heat_map(make_table(first=4, second=6), ("first", "second")),
    }
    for svg in svg_of.values():
        text = svg.decode()
        for name in ("first", "second", "image", "blocks.2", "blocks.4", "linear CKA"):
            assert f"<!-- {name}" in text
    assert "<!-- blocks.4" not in heat_map(make_table(first=4, second=4)).decode()


def test_a_large_zoo_keeps_its_size_and_names_models_only() -> None:
    table = make_table(**{f"model{i}": 20 for i in range(30)})
    text = heat_map(table).decode()
    assert "<!-- model29" in text
    assert "<!-- blocks.1" not in text
    picture = pixels(heat_map(table, form="png"))
    assert max(picture.shape) < 2400


def test_the_same_table_gives_the_same_bytes() -> None:
    assert heat_map(make_table(a=5, b=3)) == heat_map(make_table(a=5, b=3))


def test_a_png_for_the_command_line() -> None:
    assert Image.open(io.BytesIO(heat_map(make_table(a=5, b=3), form="png"))).format == "PNG"


def test_pairs_by_name() -> None:
    assert parse_pair(None, ["a"]) is None
    assert parse_pair("a, b", ["a", "b"]) == ("a", "b")
    with pytest.raises(UserError, match=r"no model 'lite1'. Did you mean 'lite0'"):
        parse_pair("lite0,lite1", ["lite0", "resnet"])
    with pytest.raises(UserError, match="two models"):
        parse_pair("a", ["a"])
