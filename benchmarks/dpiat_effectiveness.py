"""Does DPIAT help? Tables 1, 11 and 12 of its paper in small, on mnist5k.

    python benchmarks/dpiat_effectiveness.py               # one core, about ten minutes
    python benchmarks/dpiat_effectiveness.py --operators 0 # without the ablation

Four small networks are trained from scratch (the sources). Then, for every ordered pair, the
target takes its weights from the source and is trained for four epochs, as are randomly
initialised ones. Effectiveness is the test accuracy over that of the same network from random
initialization (mean over the seeds). Optimiser and schedule are those of the paper. Networks that
reach their ceiling within the epochs (the residual ones do within two) show no effect any more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn

from zoo_search import dpiat
from zoo_search.config import DatasetConfig
from zoo_search.data import open_dataset

ARCHITECTURES: dict[str, dict[str, object]] = {
    "mobilenetv3_small_050": {},
    "lcnet_050": {},
    "resnet10t": {"channels": (16, 32, 64, 96)},
    "resnet14t": {"channels": (16, 24, 32, 48)},
}
METHODS = (
    ("dp", "clip"),
    ("random", "clip"),
    ("dp", "clip_norm"),
    ("dp", "full"),
    ("dp", "magnitude"),
    ("bipartite", "clip"),
    ("nbipartite", "clip"),
)
MAIN = METHODS[0]
PAIRS = list(itertools.product(ARCHITECTURES, repeat=2))
NEXT = dict(zip(ARCHITECTURES, [*ARCHITECTURES][1:] + [*ARCHITECTURES][:1], strict=True))
ABLATION_PAIRS = [*NEXT.items(), *((t, s) for s, t in NEXT.items())]  # each network twice on a side
EPOCHS = (1, 2, 4)
Curve = dict[int, float]


@dataclass(frozen=True)
class Data:
    """Images ``[N, 3, H, W]`` around zero, and their classes."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def load(size: int, train: int, test: int) -> Data:
    """Load part of mnist5k."""
    dataset = open_dataset(DatasetConfig(name="mnist5k"))

    def part(split: str, limit: int) -> tuple[Tensor, Tensor]:
        images = dataset.select(split=split, limit=limit).load((size, size))
        return images.images.float() / 127.5 - 1, images.labels

    return Data(part("train", train), part("test", test))


def build(arch: str, seed: int) -> nn.Module:
    """A randomly initialised network."""
    torch.manual_seed(seed)
    module: nn.Module = timm.create_model(arch, num_classes=10, **ARCHITECTURES[arch])
    return module


def fit(module: nn.Module, data: Data, epochs: int, seed: int) -> Curve:
    """Train, and return the test accuracy after the epochs of interest and the last one."""
    images, labels = data.train
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(module.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=4e-4)
    curve = {}
    for epoch in range(1, epochs + 1):
        module.train()
        for batch in torch.randperm(len(images), generator=generator).split(32):
            loss = nn.functional.cross_entropy(module(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        if epoch in (*EPOCHS, epochs):
            curve[epoch] = accuracy(module, data)
    return curve


@torch.inference_mode()
def accuracy(module: nn.Module, data: Data) -> float:
    """Share of the test images that are classified rightly."""
    images, labels = data.test
    module.eval()
    return float((module(images).argmax(1) == labels).float().mean())


def main() -> None:
    """Train, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32, help="pixels")
    parser.add_argument("--images", type=int, default=1000, help="training images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--source-epochs", type=int, default=8)
    parser.add_argument("--operators", type=int, default=1, metavar="N", help="seeds of table 12")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all accuracies here too")
    parser.add_argument("--read", type=Path, metavar="FILE", help="print the tables of a --json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.read:
        report(read(options.read))
        return
    start = time.process_time()
    data = load(options.size, options.images, 500)
    accuracies: dict[tuple[str, ...], list[Curve]] = {}
    for seed in range(options.seeds):
        sources = {arch: build(arch, seed) for arch in ARCHITECTURES}
        for arch, module in sources.items():
            curve = fit(module, data, options.source_epochs, seed)
            accuracies.setdefault(("source", arch), []).append(curve)
        for arch in ARCHITECTURES:
            curve = fit(build(arch, 100 + seed), data, EPOCHS[-1], seed)
            accuracies.setdefault(("random", arch), []).append(curve)
        methods = METHODS if seed < options.operators else METHODS[:1]
        for method in methods:
            for s, t in PAIRS if method == MAIN else ABLATION_PAIRS:
                target = build(t, 100 + seed)
                dpiat.transfer(sources[s], target, *method, seed=seed)
                curve = fit(target, data, EPOCHS[-1], seed)
                accuracies.setdefault((*method, s, t), []).append(curve)
        print(f"seed {seed} done, {time.process_time() - start:.0f} s of CPU", flush=True)
    report(accuracies)
    if options.json:
        plain = {" ".join(key): value for key, value in accuracies.items()}
        options.json.write_text(json.dumps(plain))


def read(path: Path) -> dict[tuple[str, ...], list[Curve]]:
    """The accuracies that an earlier run wrote."""
    return {
        tuple(key.split()): [{int(epoch): x for epoch, x in curve.items()} for curve in curves]
        for key, curves in json.loads(path.read_text()).items()
    }


def report(accuracies: dict[tuple[str, ...], list[Curve]]) -> None:
    """Print all tables."""
    print("\naccuracy from scratch (mean ± spread over the seeds)")
    for (what, arch), curves in ((k, v) for k, v in accuracies.items() if len(k) == 2):
        marks = "  ".join(f"{e}: {spread(c[e] for c in curves)}" for e in sorted(curves[0]))
        print(f"{what:7}{arch:24}{marks}")

    def ratio(method: tuple[str, str], s: str, t: str, epoch: int) -> np.ndarray:
        base = np.mean([curve[epoch] for curve in accuracies["random", t]])
        return np.array([curve[epoch] / base for curve in accuracies[*method, s, t]])

    for epoch in EPOCHS:
        print(f"\neffectiveness after {epoch} epochs (table 1), target by row, source by column")
        print(" " * 24 + "".join(f"{s:>24}" for s in ARCHITECTURES))
        for t in ARCHITECTURES:
            cells = (spread(ratio(MAIN, s, t, epoch)) for s in ARCHITECTURES)
            print(f"{t:24}" + "".join(f"{cell:>24}" for cell in cells))

    similarities = [dpiat.similarity(build(s, 0), build(t, 0)) for s, t in PAIRS]
    print("\nsimilarity (Eq. 5) " + ", ".join(
        f"{s}-{t} {x:.2f}" for (s, t), x in zip(PAIRS, similarities, strict=True) if s < t
    ))  # fmt: skip
    print("correlation of similarity and effectiveness (table 11; the paper: 0.55 to 0.92)")
    for epoch in EPOCHS:
        means = [float(ratio(MAIN, s, t, epoch).mean()) for s, t in PAIRS]
        others = [i for i, (s, t) in enumerate(PAIRS) if s != t]
        among = np.corrcoef(np.take(similarities, others), np.take(means, others))[0, 1]
        whole = np.corrcoef(similarities, means)[0, 1]
        table = np.reshape([similarities, means], (2, len(ARCHITECTURES), -1))  # source, target
        within = [np.corrcoef(table[0, :, t], table[1, :, t])[0, 1] for t in range(table.shape[2])]
        print(
            f"  {epoch} epochs: {whole:.2f} over all pairs, {among:.2f} between different ones, "
            f"{np.mean(within):.2f} over the sources of one target (mean over the targets)"
        )

    print("\noperators (table 12): effectiveness, mean ± standard error over pairs of networks")
    tried = [m for m in METHODS if (*m, *ABLATION_PAIRS[0]) in accuracies]
    seeds = min(len(accuracies[*m, *ABLATION_PAIRS[0]]) for m in tried)  # that all went through
    for method in tried:
        cells = []
        for epoch in EPOCHS:
            values = np.array(
                [ratio(method, s, t, epoch)[:seeds].mean() for s, t in ABLATION_PAIRS]
            )
            error = values.std(ddof=1) / np.sqrt(len(values))
            cells.append(f"{epoch}: {values.mean():.2f} ± {error:.2f}")
        print(f"  {method[1]:10}{method[0]:12}" + "   ".join(cells))


def spread(values: Iterable[float]) -> str:
    """Mean and standard deviation."""
    array = np.array(list(values))
    return f"{array.mean():.2f} ± {array.std(ddof=1) if len(array) > 1 else 0:.2f}"


if __name__ == "__main__":
    main()
