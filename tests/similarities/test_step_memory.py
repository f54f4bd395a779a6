"""Ten times the images, the same memory: every process, Ray's own too, and the object store."""

from __future__ import annotations

from pathlib import Path

import pytest
from process_memory import check_level, run_script

SCRIPT = """
import json, sys

def main():
    import timm, torch
    from process_memory import watched
    from zoo_search import cluster as engine
    from zoo_search.config import DatasetConfig, SimilarityConfig, ZooEntry
    from zoo_search.data import open_dataset
    from zoo_search.similarities.step import compute
    from zoo_search.core.store import RunStore
    from zoo_search.zoo.models import ZooModel
    from zoo_search.data.preprocess import Preprocess

    torch.manual_seed(0)
    zoo = {}
    kind = {"img_size": 160, "patch_size": 32, "depth": 2}
    for name in ("a", "b"):
        net = timm.create_model("vit_tiny_patch16_224", **kind).eval()
        entry = ZooEntry(arch="v")
        zoo[name] = ZooModel(name, entry, net, Preprocess((160, 160)), "v", None, name, "")
    subset = open_dataset(DatasetConfig(name="mnist5k")).select(limit=int(sys.argv[2]))
    engine.connect("local", num_cpus=2)
    # One batch a window; 3,600 images more are 276 MB, of which no process may see a trace.
    config = SimilarityConfig(batch_size=50, window_mb=8)
    with watched() as (roles, store):
        made = compute(zoo, subset, config, 0, RunStore(sys.argv[1]))
    print(json.dumps({"roles": roles, "forwards": made.forwards, "store": max(store)}))

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    told = {}
    for images in (400, 4000):
        folder = tmp_path / str(images)
        told[images] = run_script(SCRIPT, folder, folder / "run", images)
    assert told[4000]["forwards"] == {"a": 80, "b": 80}
    few, many = told[400]["roles"], told[4000]["roles"]
    # A third of the 276 MB of further images is found in a large process, too.
    check_level(few, many, {"driver", "host", "worker", "raylet", "gcs_server"})
    assert few.keys() == many.keys()
    print(
        f"{'object store':18s} {told[400]['store'] / 1e6:12.0f} {told[4000]['store'] / 1e6:13.0f}"
    )
    assert told[4000]["store"] < 80e6  # all images are 307 MB
