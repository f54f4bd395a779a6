"""RandAugment and random erasing of single pictures."""

from __future__ import annotations

import numpy as np
from PIL import Image
from skimage import data

from zoo_search.data.preprocess import Preprocess
from zoo_search.training.pictures import PictureAugment

TRANSFORM = Preprocess(size=(48, 48))
PICTURE = Image.fromarray(data.astronaut())


def test_the_same_draw_gives_the_same_pixels_and_another_does_not() -> None:
    change = PictureAugment(TRANSFORM, 0.5, 0.5)
    first = change(PICTURE, "0 full 1 a")
    assert first.dtype == np.uint8
    assert first.shape == (3, 48, 48)
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    assert (change(PICTURE, "0 full 1 a") == first).all()
    assert (np.random.get_state()[1] == state).all()  # type: ignore[index]
    others = {change(PICTURE, f"0 full {epoch} a").tobytes() for epoch in range(2, 12)}
    assert len(others | {first.tobytes()}) == 11


def test_erasing_changes_a_rectangle_and_nothing_else() -> None:
    plain, erased = PictureAugment(TRANSFORM), PictureAugment(TRANSFORM, erase=1.0)
    for number in range(8):
        before, after = (change(PICTURE, str(number)) for change in (plain, erased))
        changed = (before != after).any(axis=0)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        area = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert 0.01 < area / changed.size < 0.4
        assert changed.sum() > 0.95 * area


def test_any_draw_is_borne() -> None:
    change = PictureAugment(TRANSFORM, 0.5, 0.3)
    small = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("RGB")
    shapes = {change(small, str(number)).shape for number in range(300)}
    assert shapes == {(3, 48, 48)}
