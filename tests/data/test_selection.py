"""The count of images that cannot be decoded."""

from __future__ import annotations

import pickle

import pytest

from zoo_search.core.errors import UserError
from zoo_search.data.selection import BadImages, Skipped, check_bad


@pytest.mark.parametrize(("bad", "total", "share"), [(0, 10, 0.0), (1, 10, 0.1), (10, 10, 1.0)])
def test_as_many_as_are_allowed_pass(bad: int, total: int, share: float) -> None:
    check_bad({str(i): "x" for i in range(bad)}, total, share)
    with pytest.raises(UserError, match=f"{bad + 1} of {total} images could not be decoded"):
        check_bad({str(i): "x" for i in range(bad + 1)}, total, share)


def test_five_are_named_and_the_rest_counted() -> None:
    with pytest.raises(UserError) as caught:
        check_bad({f"{i}.png": f"reason {i}" for i in range(7)}, 100, 0.02)
    assert "0.png (reason 0); 1.png (reason 1)" in str(caught.value)
    assert "4.png (reason 4); and 2 more. dataset.max_bad: 0.02 allows 2." in str(caught.value)


def test_a_repeated_task_adds_nothing() -> None:
    count = BadImages(10, 0.1)
    for _ in range(5):
        count.add("a.png", "broken")
    assert count.found() == {"a.png": "broken"}
    with pytest.raises(UserError, match="2 of 10"):
        count.add("b.png", "broken")


def test_what_was_skipped_is_sorted_and_stays_here() -> None:
    skipped = Skipped()
    skipped.add({"b": "2", "a": "1"})
    assert list(skipped.reasons().items()) == [("a", "1"), ("b", "2")]
    assert pickle.loads(pickle.dumps(skipped)).reasons() == {}
