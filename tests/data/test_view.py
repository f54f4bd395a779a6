"""Views: what they refuse, and that they are keys by value."""

from __future__ import annotations

import numpy as np
import pytest

from zoo_search.core.errors import UserError
from zoo_search.data.decode import decode
from zoo_search.data.view import View, as_view


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (((8, 8), "bicubi"), r"no interpolation 'bicubi'\. Did you mean 'bicubic'\? Allowed: near"),
        (((0, 8),), r"size \(0, 8\) .* at least 1"),
        (((8, 8), "nearest", 0.0), r"crop_pct 0\.0: .* above 0"),
        (((8, 8), "nearest", 1.01), r"crop_pct 1\.01: .* at most 1"),
    ],
)
def test_what_makes_no_sense_is_said(arguments: tuple, said: str) -> None:
    with pytest.raises(UserError, match=said):
        View(*arguments)


def test_equal_views_are_one_key() -> None:
    assert len({View((8, 6)), View((8, 6), "bicubic", 1.0), as_view((8, 6))}) == 1
    assert (
        len({View((8, 6)), View((6, 8)), View((8, 6), "nearest"), View((8, 6), crop_pct=0.5)}) == 4
    )


def test_a_view_is_taken_as_it_is_and_a_size_with_what_is_said_beside_it() -> None:
    view = View((8, 6), "nearest", 0.5)
    assert as_view(view) is view
    assert as_view((8, 6), "nearest", 0.5) == view


def test_bytes_of_an_image() -> None:
    view = View((8, 6))
    assert decode(np.zeros((5, 5), np.uint8), view).nbytes == view.nbytes == 3 * 8 * 6
