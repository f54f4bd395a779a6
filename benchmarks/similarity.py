"""How fast similarity is, as ratios within one run; measurements that are compared take turns.

Part 1: the table of a zoo against the usual procedure, which makes two Gram matrices, centres both
and multiplies them for each pair of layers. Part 2: the product step against ``torch.mm`` on
matrices of that size. Part 3: images to Gram parts against a bare loop ``model(batch)``. Part 4:
time and disk as the zoo and the images grow.

    python benchmarks/similarity.py --part 1,2 --whole --out similarity.json
    python benchmarks/similarity.py --part 3 --ray
    python benchmarks/similarity.py --part 4 --plot growth.png
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoo_search.similarities.estimators.products import PairSums
from zoo_search.similarities.estimators.registry import get_metric, vector_length
from zoo_search.similarities.passes.grams import dequantise, quantise

ARCHITECTURES = (
    "resnet50", "efficientnet_b0", "mobilenetv3_large_100", "regnetx_016",
    "resnext50_32x4d", "mixnet_s", "regnety_016", "mnasnet_100",
)  # fmt: skip
CUTS = 16


def seconds(work: Callable[[], Any]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def table_against_usual(args: argparse.Namespace) -> dict[str, Any]:
    """Part 1: 8 models of 16 cuts, n = 1,024 in one batch, then fewer and more models."""
    print(f"part 1: {args.images} images, {CUTS} cuts a model, {torch.get_num_threads()} threads")
    features = real_features(max(args.models), args.images)
    rows = []
    for models in args.models:
        row = one_zoo(features[: models * CUTS], args.pairs, whole=args.whole and models == 8)
        rows.append({"models": models, **row})
        print("  " + ", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()))
    return {"images": args.images, "cuts": CUTS, "rows": rows}


def table_of(features: Sequence[Tensor]) -> npt.NDArray[np.float32]:
    """Return unbiased CKA of all pairs on one batch, as ours makes it."""
    sums = PairSums(get_metric("cka"), len(features))
    sums.add_features(features, len(features[0]), [x.shape[1] for x in features])
    return sums.values()


def one_zoo(features: Sequence[Tensor], sample: int, whole: bool) -> dict[str, float]:
    """Time both procedures on one zoo; ours is run again and again while the usual one runs.

    Not ``whole``: the usual procedure takes a random sample of the pairs and all layers with
    themselves, and its time is scaled up to all pairs.
    """
    m = len(features)
    pairs = [(i, j) for i in range(m) for j in range(i, m)]
    alone = [(i, i) for i in range(m)]
    others = [pair for pair in pairs if pair[0] != pair[1]]
    chosen = others if whole else random.Random(0).sample(others, min(sample, len(others)))
    ours: list[float] = []
    hsic: dict[tuple[int, int], float] = {}
    usual = 0.0
    table = table_of(features)
    work = alone + chosen
    for start in range(0, len(work), step := -(-len(work) // 5)):
        ours.append(seconds(lambda: table_of(features)))
        begin = time.perf_counter()
        for i, j in work[start : start + step]:
            hsic[i, j] = usual_hsic(features[i], features[j])
        usual += time.perf_counter() - begin
    usual *= len(pairs) / len(work)
    theirs = {(i, j): hsic[i, j] / (hsic[i, i] * hsic[j, j]) ** 0.5 for i, j in chosen}
    worst = sorted(chosen, key=lambda pair: abs(theirs[pair] - float(table[pair])))[-20:]
    exact = {pair: exact_cka(features[pair[0]], features[pair[1]]) for pair in worst}
    return {
        "pairs": len(pairs),
        "pairs_timed": len(work),
        "usual_s": usual,
        "ours_s": statistics.median(ours),
        "ratio": usual / statistics.median(ours),
        "max_difference": abs(theirs[worst[-1]] - float(table[worst[-1]])),
        "ours_from_float64": max(abs(float(table[pair]) - exact[pair]) for pair in worst),
        "usual_from_float64": max(abs(theirs[pair] - exact[pair]) for pair in worst),
    }


def exact_cka(x: Tensor, y: Tensor) -> float:
    """Return unbiased CKA by the usual procedure in float64."""
    x, y = x.double(), y.double()
    value: float = usual_hsic(x, y) / (usual_hsic(x, x) * usual_hsic(y, y)) ** 0.5
    return value


def usual_hsic(x: Tensor, y: Tensor) -> float:
    """Return unbiased HSIC of two layers as it is usually written, in the features' precision."""

    def centred(gram: Tensor) -> Tensor:
        n = len(gram)
        gram.fill_diagonal_(0)
        means = gram.sum(dim=0) / (n - 2)
        means -= means.sum() / (2 * (n - 1))
        gram -= means[:, None]
        gram -= means[None, :]
        return gram.fill_diagonal_(0)

    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return float(torch.dot(centred(x @ x.T).flatten(), centred(y @ y.T).flatten()))


def real_features(models: int, images: int) -> list[Tensor]:
    """Return pooled features of the first 16 cuts of models of eight architectures, on digits.

    Weights are random: times do not depend on them. Beyond eight models, the seed changes.
    """
    import timm
    from sklearn.datasets import load_digits

    from zoo_search.linegraph import trace
    from zoo_search.similarities.estimators.features import evaluating, pool

    pixels = torch.tensor(load_digits().images[:images] / 16, dtype=torch.float32)
    pixels = torch.nn.functional.interpolate(pixels[:, None], size=32).expand(-1, 3, -1, -1)
    features: list[Tensor] = []
    for index in range(models):
        torch.manual_seed(index)
        name = ARCHITECTURES[index % len(ARCHITECTURES)]
        graph = trace(timm.create_model(name).eval(), (3, 32, 32), name)
        cuts: list[list[Tensor]] = [[] for _ in range(CUTS)]
        with evaluating(graph):
            for batch in torch.split(pixels, 256):
                for cut, x in graph.activations(batch):
                    if cut < CUTS:
                        cuts[cut].append(pool(x, graph.cuts[cut]))
        features += [torch.cat(parts) for parts in cuts]
    return features


def product_step(args: argparse.Namespace) -> dict[str, Any]:
    """Part 2: sums of products of all pairs, from float32 rows and from rows as stored."""
    print(f"part 2: {torch.get_num_threads()} threads")
    rows = []
    for cuts, images in ((128, 256), (512, 256), (128, 1024)):
        v = vector_length("cka", images)
        generator = torch.Generator().manual_seed(0)
        vectors = torch.nn.functional.normalize(torch.randn(cuts, v, generator=generator), dim=1)
        stored, norms = quantise(vectors), torch.ones(cuts, 1, dtype=torch.float64)
        sums = PairSums(get_metric("cka"), cuts)
        work: dict[str, Callable[[], Any]] = {
            "mm": partial(torch.mm, vectors, vectors.T),
            "products": partial(sums.add, vectors[:, None], norms),
            "stored": partial(add_stored, sums, stored, norms),
        }
        times: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(args.repeats):
            for name, call in work.items():
                times[name].append(seconds(call))
        medians = {name: statistics.median(values) for name, values in times.items()}
        row = {
            "cuts": cuts,
            "images": images,
            "v": v,
            "mm_gflops": 2 * cuts * cuts * v / medians["mm"] / 1e9,
            "of_mm": medians["mm"] / medians["products"],
            "of_mm_from_stored": medians["mm"] / medians["stored"],
        }
        rows.append(row)
        print("  " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()))
    return {"rows": rows}


def add_stored(sums: PairSums, stored: Tensor, norms: Tensor) -> None:
    """Add a batch whose vectors come as Gram files hold them."""
    sums.add(dequantise(stored)[:, None], norms)


def extraction(args: argparse.Namespace) -> dict[str, Any]:
    """Part 3: images to Gram parts against a bare loop ``model(batch)``."""
    from similarity_extraction import extraction as part

    return part(args)


def growth(args: argparse.Namespace) -> dict[str, Any]:
    """Part 4: time and disk as the zoo and the images grow."""
    from similarity_growth import growth as part

    return part(args)


PARTS = {1: table_against_usual, 2: product_step, 3: extraction, 4: growth}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--part", default="1,2", help="which parts, such as 1,2")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON")
    parser.add_argument("--repeats", type=int, default=9, help="part 2: repetitions")
    parser.add_argument("--images", type=int, default=1024, help="part 1: images")
    parser.add_argument("--models", type=int, nargs="+", default=[2, 4, 8, 16], help="part 1")
    parser.add_argument("--pairs", type=int, default=300, help="part 1: pairs that are timed")
    parser.add_argument(
        "--archs",
        nargs="+",
        default=["resnet18", "mobilenetv3_large_100", "vit_tiny_patch16_224"],
        help="part 3: timm names",
    )
    parser.add_argument("--size", type=int, default=128, help="part 3: pixels a side")
    parser.add_argument("--batch", type=int, default=256, help="part 3: images a batch")
    parser.add_argument("--precision", default="fp32", help="part 3: fp32 or bf16")
    parser.add_argument("--ray", action="store_true", help="part 3: the whole pool as well")
    parser.add_argument(
        "--growth-models", type=int, nargs="+", default=[4, 8, 16, 32], help="part 4"
    )
    parser.add_argument(
        "--growth-images", type=int, nargs="+", default=[1000, 2000, 4000, 8000], help="part 4"
    )
    parser.add_argument("--plot", type=Path, help="part 4: where the picture goes")
    parser.add_argument("--whole", action="store_true", help="part 1: all pairs of 8 models")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    found = {part: PARTS[part](args) for part in map(int, args.part.split(","))}
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
