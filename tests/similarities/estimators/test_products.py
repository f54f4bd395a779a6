"""Sums of products: whole, tile by tile, and of some cuts only."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from zoo_search.similarities.estimators.products import PairSums, stack
from zoo_search.similarities.estimators.registry import METRICS, get_metric

N = 11
FRESH = {
    "one": [4],
    "a run": [3, 4, 5],
    "apart": [0, 4, 10],
    "most": [0, 1, 2, 3, 5, 6, 7, 8, 10],
    "none": [],
    "all": list(range(N)),
}


def batches(metric: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(2, 30, 4, generator=generator)
    found = []
    for common in shared:
        features = [
            common @ torch.randn(4, d, generator=generator)
            + torch.randn(30, d, generator=generator)
            for d in range(2, 2 + N)
        ]
        found.append(stack(map(get_metric(metric).embed, features), N))
    return found


def mask_of(places: list[int]) -> np.ndarray:
    mask = np.zeros(N, dtype=bool)
    mask[places] = True
    return mask


def in_tiles(sums: PairSums, data: list[tuple[torch.Tensor, torch.Tensor]], step: int) -> None:
    parts = [slice(a, min(a + step, N)) for a in range(0, N, step)]
    for rows, norms in data:
        for i, j in itertools.product(parts, parts):
            if sums.wants(i, j):
                sums.add_tile(i, j, (rows[i], norms[i]), (rows[j], norms[j]))
        sums.end_batch()


@pytest.fixture(scope="module", params=METRICS.ours)
def case(request):
    """The metric, its batches, and the values from float64 by definition."""
    metric, data = get_metric(request.param), batches(request.param)
    total = torch.zeros(N, N, dtype=torch.float64)
    for rows, norms in data:
        product = rows[:, 0].double() @ rows[:, -1].double().T
        total += product * norms[:, :1] * norms[:, -1:].T
    if metric.summed:
        total /= torch.outer(total.diagonal(), total.diagonal()).sqrt()
    else:
        total /= len(data)
    return metric, data, total.fill_diagonal_(1).numpy()


def test_whole_batches(case) -> None:
    metric, data, expected = case
    sums = PairSums(metric, N)
    for rows, norms in data:
        sums.add(rows, norms)
    assert np.abs(sums.values() - expected).max() < 1e-6
    assert (sums.values() == sums.values().T).all() == metric.symmetric


@pytest.mark.parametrize("step", [1, 3, 4, 11])
def test_tiles_in_any_order_give_the_same(case, step: int) -> None:
    metric, data, expected = case
    sums = PairSums(metric, N)
    in_tiles(sums, data, step)
    assert np.abs(sums.values() - expected).max() < 1e-6


@pytest.mark.parametrize("step", [0, 4])
@pytest.mark.parametrize("which", FRESH)
def test_fresh_cuts_join_known_values(case, which: str, step: int) -> None:
    metric, data, expected = case
    fresh = mask_of(FRESH[which])
    sums = PairSums(metric, N, fresh)
    if step:
        in_tiles(sums, data, step)
    else:
        for rows, norms in data:
            sums.add(rows, norms)
    known = np.full((N, N), 7, dtype=np.float32)
    values = sums.values(known)
    wanted = fresh[:, None] | fresh[None, :]
    assert np.abs(values - expected)[wanted].max(initial=0) < 1e-6
    assert (values[~wanted] == 7).all()


def test_a_cut_that_joins_costs_its_own_row_and_column() -> None:
    rows, norms = batches("cka")[0]
    costs = []
    for places in ([4], [3, 4, 5], list(range(N))):
        sums = PairSums(get_metric("cka"), N, mask_of(places))
        sums.add(rows, norms)
        costs.append(sums.computed)
    assert costs[0] == N + (N - 1)  # its row, and every other cut with itself
    assert costs[1] == 3 * N + (N - 3)
    assert costs[2] < 0.75 * N * N
    tiles = PairSums(get_metric("cka"), N, mask_of([4]))
    in_tiles(tiles, [(rows, norms)], 3)
    assert tiles.computed == costs[0]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="11 booleans"):
        PairSums(get_metric("cka"), N, np.zeros(3, dtype=bool))
    sums = PairSums(get_metric("cka"), N, mask_of([1]))
    with pytest.raises(ValueError, match=r"must be \[11, 11\]"):
        sums.values()
    with pytest.raises(ValueError, match=r"must be \[11, 11\]"):
        sums.values(np.zeros((2, 2)))
