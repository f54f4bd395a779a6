"""Batches of decoded images, and actors that die."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from zoo_search.config import DatasetConfig
from zoo_search.data import open_dataset
from zoo_search.errors import UserError
from zoo_search.linegraph import trace
from zoo_search.similarity.extract import Pool, Settings
from zoo_search.similarity.gather import View, gather_batches
from zoo_search.similarity.step import _check_sizes, fixed_batches
from zoo_search.zoo.preprocess import Preprocess

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_batches_hold_the_same_pixels_and_leave_out_what_cannot_be_decoded(tmp_path: Path) -> None:
    import ray

    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("x", "y"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(5):
                pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    (tmp_path / "train" / "x" / "3.png").write_bytes(b"no picture")
    config = DatasetConfig(name="folder", path=str(tmp_path), max_bad=0.2)
    subset = open_dataset(config).select("train")
    batches = fixed_batches(subset.ids, 4, seed=1)
    assert sorted(map(len, batches)) == [4, 6]

    found = gather_batches(subset, batches, View((16, 16), "bilinear", 1.0))
    loaded = subset.load((16, 16), "bilinear")
    pixels = dict(zip(loaded.ids, loaded.images.numpy(), strict=True))
    for batch, planned in zip(found, batches, strict=True):
        assert batch.ids == [name for name in planned if not name.endswith("x/3.png")]
        images = ray.get(batch.images)
        assert images.dtype == np.uint8
        assert (images == np.stack([pixels[name] for name in batch.ids])).all()
    assert sum(len(batch.ids) for batch in found) == 9
    if min(len(batch.ids) for batch in found) < 4:
        with pytest.raises(UserError, match="can be decoded"):
            _check_sizes(found)


@pytest.mark.slow
def test_an_actor_that_dies_changes_nothing() -> None:
    import ray

    subset = open_dataset(DatasetConfig(name="digits", per_class=8)).select()
    torch.manual_seed(0)
    graph = trace(timm.create_model("mobilenetv3_small_050").eval(), (3, 32, 32), name="m")
    batches = fixed_batches(subset.ids, 8, seed=0)
    images = gather_batches(subset, batches, View((32, 32), "bicubic", 1.0))

    def run(kill: bool) -> dict[int, object]:
        pool = Pool(Settings("cka", "avg", "mean", "fp32"), 2)
        found = {}
        for _, batch, rows in pool.run({"m": (graph, Preprocess((32, 32)))}, images):
            if kill and not found:
                ray.kill(pool._workers[0].actor, no_restart=False)
            found[batch] = rows
        pool.close()
        return found

    assert run(kill=True) == run(kill=False)
