"""Ten times the images, the same memory: they are streamed through an epoch, and none is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from process_memory import few_and_many

SCRIPT = """
import json, sys

def main():
    import timm, torch
    from process_memory import watched
    from safetensors.torch import save_file
    from zoo_search import cluster
    from zoo_search.config import load_job
    from zoo_search.core.store import RunStore
    from zoo_search.data import open_dataset
    from zoo_search.finetune import step
    from zoo_search.finetune.entries import Entry
    from zoo_search.networks import Recipe
    from zoo_search.zoo import load_zoo

    folder, limit = sys.argv[1:]
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit").state_dict(), folder + "/w.safetensors")
    job = load_job({
        "name": "x",
        "input_size": 160,
        "zoo": {"m": {"arch": "test_vit", "kwargs": {"img_size": 160, "patch_size": 32},
                      "weights": folder + "/w.safetensors"}},
        "dataset": {"name": "mnist5k", "limit": int(limit)},
        "finetune": {"epochs": 1, "protocol": ["frozen"], "batch_size": 100, "keep_decoded": 0,
                     "seeds": 1, "validation": 0},
    })
    zoo = load_zoo(job)
    data = open_dataset(job.dataset, 0)
    cluster.connect("local", num_cpus=2)
    recipe = Recipe.whole("m", len(zoo["m"].graph))
    with watched() as (roles, store):
        step.run([Entry("m", "reassembly", recipe)], zoo, data, job, RunStore(folder + "/run"))
    print(json.dumps({"roles": roles, "store": max(store)}))

if __name__ == "__main__":
    main()
"""


@pytest.mark.exhaustive
@pytest.mark.timeout(1500)
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    needed = {"driver", "training worker", "worker", "raylet", "gcs_server"}
    # 3,600 images more are 276 MB; half of them in one process would be seen.
    _, many = few_and_many(SCRIPT, tmp_path, 138e6, needed)
    assert many["store"] < 300e6
