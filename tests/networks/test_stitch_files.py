"""Stitches on disk, for other processes and later runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo_search.core.store import RunStore
from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.networks.fitter import StitchFitter
from zoo_search.networks.stitch_files import FOLDER, stitch_files

LONG = Recipe((BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("swin", 2, 5)))


def weights(recipe: Recipe, zoo: Any, fitter: StitchFitter, joint: int) -> Tensor:
    """Return the map of one stitch."""
    stitch = assemble(recipe, zoo, num_classes=3, fitter=fitter).stitches[joint]
    return stitch.map.weight


def hashed(zoo: Any, **changed: str) -> dict[str, Any]:
    """The models, some of them with other hashes of their weights."""
    return {
        name: replace(model, weights_hash=changed.get(name, name)) for name, model in zoo.items()
    }


def test_stitches_are_found_again_by_other_processes(
    zoo, images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(tmp_path)

    def fitter(*, used: int = 32, **changed: str) -> StitchFitter:
        keeper = stitch_files(store, hashed(zoo, **changed), "digits", used)
        return StitchFitter(zoo, images[:used], keeper=keeper)

    first = weights(LONG, zoo, fitter(), 1)
    assert len(store.list(FOLDER)) == 2
    with monkeypatch.context() as no_forward:
        no_forward.setattr(StitchFitter, "own", lambda *_: pytest.fail("a model was run"))
        again = fitter()
        assert torch.equal(weights(LONG, zoo, again, 1), first)
        assert len(again.r2) == 2
    weights(LONG, zoo, fitter(swin="changed"), 1)
    assert len(store.list(FOLDER)) == 3  # the one pair that the changed model is in
    assert not torch.equal(weights(LONG, zoo, fitter(used=24), 1), first)
    assert len(store.list(FOLDER)) == 5
