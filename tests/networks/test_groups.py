"""How much each group of features counts, against leaving images out one by one."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import Ridge

from zoo_search.networks.groups import _PENALTIES, head_scales, left_out_error, spread_scales


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_error_is_that_of_fits_without_each_sample():
    x, y = draw(18, 7) + 3, draw(18, 2, seed=1)
    centred = x - x.mean(0)
    gram = centred @ centred.T
    mean = float(torch.trace(gram)) / len(x)
    errors = []
    for penalty in _PENALTIES:
        left = 0.0
        for out in range(len(x)):
            kept = np.arange(len(x)) != out
            ridge = Ridge(penalty * mean).fit(x[kept].numpy(), y[kept].numpy())
            left += float(np.square(ridge.predict(x[[out]].numpy()) - y[[out]].numpy()).sum())
        errors.append(left)
    assert np.isclose(left_out_error(gram, y), min(errors), rtol=1e-8)


def test_groups_come_to_equal_spread_and_one_alone_stays():
    x = torch.cat([100 * draw(50, 3), draw(50, 20, seed=1), torch.zeros(50, 2)], 1)
    scaled = torch.split(x * spread_scales(x, [3, 20, 2]), [3, 20, 2], 1)
    sums = [float(part.var(0, correction=0).sum()) for part in scaled]
    assert np.allclose(sums, [1, 1, 0])
    assert torch.equal(spread_scales(x, [25]), torch.ones(25, dtype=torch.float64))
    assert torch.equal(head_scales(x, draw(50, 2), [25]), torch.ones(25, dtype=torch.float64))


def test_a_group_that_says_nothing_counts_less_than_one_that_tells_all():
    useful, noise, last = draw(80, 5), 50 * draw(80, 200, seed=1), draw(80, 30, seed=2)
    y = useful[:, :2] + 0.1 * last[:, :2]
    x = torch.cat([noise, useful, last], 1)
    scales = head_scales(x, y, [200, 5, 30]) / spread_scales(x, [200, 5, 30])
    least, most = float(scales[0]), float(scales[200])
    assert most > 3 * least
