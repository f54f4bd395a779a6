"""Ten times the images, the same memory: every process, Ray's own too, and the object store."""

from __future__ import annotations

from pathlib import Path

import pytest
from process_memory import few_and_many

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
    # One batch a window; 3,600 images more are 276 MB.
    config = SimilarityConfig(batch_size=50, window_mb=8)
    with watched() as (roles, store):
        made = compute(zoo, subset, config, 0, RunStore(sys.argv[1] + "/run"))
    print(json.dumps({"roles": roles, "forwards": made.forwards, "store": max(store)}))

if __name__ == "__main__":
    main()
"""


@pytest.mark.exhaustive
@pytest.mark.timeout(1500)
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    needed = {"driver", "host", "worker", "raylet", "gcs_server"}
    few, many = few_and_many(SCRIPT, tmp_path, 138e6, needed)  # half of the 276 MB
    assert many["forwards"] == {"a": 80, "b": 80}
    assert few["roles"].keys() == many["roles"].keys()
    assert many["store"] < 80e6  # all images are 307 MB
