"""Products of Gram files, tile by tile, against all vectors at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from zoo_search.core.store import RunStore
from zoo_search.similarities.estimators.products import PairSums
from zoo_search.similarities.estimators.registry import get_metric
from zoo_search.similarities.passes import grams, second


@pytest.mark.parametrize("metric", ["cka", "cka_biased", "lr"])
@pytest.mark.parametrize("fresh", [[1, 1, 1, 1], [0, 0, 1, 0], [1, 0, 0, 1]])
def test_tiles_give_what_the_whole_gives(tmp_path: Path, metric: str, fresh: list[int]) -> None:
    """Any budget, down to one model a tile; the reference multiplies all vectors in float64."""
    torch.manual_seed(1)
    store, estimator = RunStore(tmp_path), get_metric(metric)
    models = {name: 2 + i for i, name in enumerate("abcd")}
    headers: dict[str, dict[int, grams.Header]] = {name: {} for name in models}
    vectors = []
    for batch, n in enumerate((12, 9, 16)):
        found = []
        for name, count in models.items():
            embedded = [estimator.embed(torch.randn(n, 5)) for _ in range(count)]
            header, data = grams.encode(name, "made", batch, ["x"] * n, embedded, "float32")
            store.write_bytes(grams.path_of(name, batch), data)
            headers[name][batch] = header
            found += embedded
        rows = torch.stack([e.rows for e in found]).double()
        norms = torch.stack([e.norms for e in found])
        vectors.append((rows[:, 0] * norms[:, :1]) @ (rows[:, -1] * norms[:, -1:]).T)
    total = torch.stack(vectors).sum(0).numpy()
    if estimator.summed:
        total = total / np.sqrt(np.outer(total.diagonal(), total.diagonal()))
    else:
        total = total / 3

    mask = np.repeat(np.array(fresh, dtype=bool), list(models.values()))
    for budget in (1, 8_000, 10**9):
        sums, heard = PairSums(estimator, len(mask), mask), []
        tiles = second.tiles_of(sums, headers, budget)
        second.add_tiles(sums, store, tiles, lambda h=heard: h.append(1))
        values = sums.values(np.full_like(total, 7))
        wanted = mask[:, None] | mask[None, :]
        off = ~np.eye(len(mask), dtype=bool)
        assert np.abs(values - total)[wanted & off].max() < 1e-5
        assert (values[~wanted] == 7).all()
        assert len(heard) == len(tiles)
        assert sum(tile.last for tile in tiles) == 3
        assert len(tiles) == 3 if budget == 10**9 else len(tiles) > 3
