"""A process that runs out of memory takes fewer images at once, and gives the same values."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from zoo_search.similarities.passes.extract import out_of_memory, with_fewer_images

SCRIPT = """
import json, resource, sys
import numpy as np, timm, torch
torch.set_num_threads(1)
from zoo_search.linegraph import trace
from zoo_search.similarities.passes.extract import with_fewer_images
from zoo_search.similarities.estimators.products import PairSums
from zoo_search.similarities.estimators.registry import get_metric
from zoo_search.similarities.estimators.features import cut_features, evaluating

torch.manual_seed(0)
graph = trace(timm.create_model("mobilenetv3_small_050").eval(), (3, 96, 96), name="m")
images = torch.randn(64, 3, 96, 96)
metric = get_metric("cka")

def run(size):
    tried.append(size)
    ids = [str(i) for i in range(64)]
    features = cut_features(graph, lambda rows: images[rows], ids, chunk=size)
    return [metric.embed(x) for _, x in features]

def table(embedded):
    sums = PairSums(metric, len(embedded))
    sums.add(torch.stack([e.rows for e in embedded]), torch.stack([e.norms for e in embedded]))
    return sums.values()

with evaluating(graph):
    tried = []
    whole, _ = with_fewer_images(run, 64)
    run(4)
    del tried[:]
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    # As much again as a few images take; the largest maps of 64 images are over 9 MB each.
    resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]),) * 2)
    embedded, size = with_fewer_images(run, 64)
print(json.dumps({"tried": tried, "size": size,
                  "gap": float(np.abs(table(embedded) - table(whole)).max())}))
"""


@pytest.mark.slow
def test_a_real_lack_of_memory_halves_the_images_and_keeps_the_values(tmp_path: Path) -> None:
    script = tmp_path / "limited.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), str(10_000_000)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["tried"][0] == 64
    assert told["size"] < 64
    assert told["tried"] == [64 >> i for i in range(len(told["tried"]))]
    assert told["gap"] < 1e-5


def test_what_is_no_lack_of_memory_is_not_tried_again() -> None:
    tried = []

    def broken(size: int) -> None:
        tried.append(size)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        with_fewer_images(broken, 64)
    assert tried == [64]
    with pytest.raises(RuntimeError) as error:
        with_fewer_images(lambda size: torch.empty(1 << 55), 4)
    assert out_of_memory(error.value)
