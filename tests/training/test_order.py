"""Which images make up which step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo_search.training.order import WINDOW, share, shuffled, steps_of


@given(st.integers(1, 500), st.integers(1, 70), st.booleans())
def test_steps_are_of_nearly_one_size_and_leave_nothing_out(n: int, size: int, even: bool) -> None:
    order = np.random.default_rng(n).permutation(n)
    steps = steps_of(order, size, even=even)
    lengths = [len(step) for step in steps]
    seen = np.concatenate([*steps, np.empty(0, dtype=int)])
    assert len(np.unique(seen)) == len(seen)
    if even:
        assert all(length % 2 == 0 for length in lengths)
        assert len(seen) >= n - max(1, round(n / size))
    else:
        assert seen.tolist() == order.tolist()
        assert n == 1 or min(lengths) > 1  # batch norms have no statistics of a single image
        assert max(lengths) - min(lengths) <= 1


@given(st.integers(0, 100), st.integers(1, 9))
def test_shares_cover_a_step_and_keep_pairs_together(size: int, workers: int) -> None:
    shares = [share(size, rank, workers) for rank in range(workers)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(size))
    for mine in shares:
        assert mine.tolist() == sorted(mine.tolist())
        # Mixup pairs an image with its mirror image: in the share as in the whole step.
        assert (mine[::-1] == size - 1 - mine).all()
    lengths = [len(mine) for mine in shares]
    assert max(lengths) - min(lengths) <= 2


def test_one_worker_takes_all() -> None:
    assert share(7, 0, 1).tolist() == list(range(7))


def test_groups_stay_within_a_window() -> None:
    groups = np.split(np.arange(20 * WINDOW), range(64, 20 * WINDOW, 64))
    order = shuffled(20 * WINDOW, np.random.default_rng(0), groups)
    assert sorted(order.tolist()) == list(range(20 * WINDOW))
    again = shuffled(20 * WINDOW, np.random.default_rng(0), groups)
    other = shuffled(20 * WINDOW, np.random.default_rng(1), groups)
    assert order.tolist() == again.tolist() != other.tolist()
    for window in np.split(order, range(WINDOW, len(order), WINDOW)):
        assert len(np.unique(window // 64)) == WINDOW // 64  # each group whole, in one window
        assert np.abs(np.diff(window)).mean() > WINDOW  # and mixed with groups from afar


@pytest.mark.parametrize("groups", [None, [np.arange(3), np.arange(3, 10)]])
def test_every_image_comes_once(groups: list[np.ndarray] | None) -> None:
    order = shuffled(10, np.random.default_rng(3), groups)
    assert sorted(order.tolist()) == list(range(10))
