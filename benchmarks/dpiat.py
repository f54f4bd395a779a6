"""DPIAT on the nine architectures of its paper: similarities, times, and a plain Python yardstick.

    python benchmarks/dpiat.py                  # all 81 pairs, about half a minute
    python benchmarks/dpiat.py --yardstick 0    # without the plain Python

The yardstick is Eqs. 2 and 3 of the paper cell by cell, written independently of the library. It
must give the same scores to 1e-9. It runs in two ways: with Eq. 1 where the equations ask for it,
and with Eq. 1 computed once for a pair of layers, which is as fast as plain Python gets. Times are
CPU time. No weights are needed: everything runs on the meta device.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Sequence

import timm
import torch
from torch import nn

from zoo_search.dpiat.matching import match
from zoo_search.dpiat.ranking import block_similarity
from zoo_search.dpiat.standardize import Block, standardize

ARCHITECTURES = (
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "mixnet_l",
    "mixnet_m",
    "rexnet_150",
    "rexnet_100",
    "mnasnet_100",
    "semnasnet_100",
)
LARGE = ("efficientnet_b0", "efficientnet_b8", "resnet152", "densenet201", "inception_v4")
DEPTHS = (96, 200, 400, 600, 800, 1000)


def plain_score(target: Sequence[Block], source: Sequence[Block]) -> float:
    """Score of the matching of two standardized networks, cell by cell."""
    blocks = [
        [
            plain_table(len(t), len(s), lambda i, j, t=t, s=s: shape_score(t[i], s[j]))
            for s in source
        ]
        for t in target
    ]
    return plain_table(len(target), len(source), lambda i, j: blocks[i][j])


def plain_table(n: int, m: int, score: Callable[[int, int], float]) -> float:
    """Eqs. 2 and 3: dp[n][m] of n target and m source elements."""
    dp = [[0.0] * (m + 1) for _ in range(n + 1)]
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            best = max(dp[i - 1][j], dp[i][j - 1])
            total, count = 0.0, 0
            for k in range(i, 0, -1):
                value = score(k - 1, j - 1)
                if value > 0:
                    total, count = total + value, count + 1
                    best = max(best, dp[k - 1][j - 1] + total / math.sqrt(count))
            dp[i][j] = best
    return dp[n][m]


def plain_score_from_tables(target: Sequence[Block], source: Sequence[Block]) -> float:
    """The same, with the scores of the layers of two blocks computed before the cells."""
    blocks = []
    for t in target:
        row = []
        for s in source:
            scores = [[shape_score(x, y) for y in s] for x in t]
            row.append(plain_table(len(t), len(s), lambda i, j, v=scores: v[i][j]))
        blocks.append(row)
    return plain_table(len(target), len(source), lambda i, j: blocks[i][j])


def growth() -> None:
    """Print the time to match networks with themselves and each other as they grow."""
    with torch.device("meta"):
        nets = {name: standardize(timm.create_model(name)) for name in LARGE}
        deep = {n: standardize(deep_net(n)) for n in DEPTHS}
        flat = {n: standardize(nn.Sequential(nn.Linear(3, 4), flat_net(n))) for n in DEPTHS}
    print("\nseconds to match large networks, with back-tracking")
    print(" " * 18 + "layers  largest block" + "".join(f"{name:>18}" for name in LARGE))
    for name, blocks in nets.items():
        row = "".join(f"{seconds(blocks, other):18.3f}" for other in nets.values())
        print(f"{name:18}{sum(map(len, blocks)):6}{max(map(len, blocks)):15}{row}")
    print("\nseconds by depth: all layers in blocks of eight, and all in a single block")
    for n in DEPTHS:
        print(f"{n:6} layers {seconds(deep[n], deep[n]):9.3f} {seconds(flat[n], flat[n]):9.3f}")


def deep_net(layers: int) -> nn.Sequential:
    """Blocks of four convolutions and norms, no two of the same shapes."""
    return nn.Sequential(*(flat_net(8, 8 + 3 * i) for i in range(layers // 8)))


def flat_net(layers: int, width: int = 8) -> nn.Sequential:
    """Convolutions and norms one after the other, of changing widths."""
    widths = [width + i % 97 for i in range(layers // 2 + 1)]
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(m for a, b in pairs for m in (nn.Conv2d(a, b, 3), nn.BatchNorm2d(b))))


def seconds(target: Sequence[Block], source: Sequence[Block]) -> float:
    """CPU time of a matching."""
    start = time.process_time()
    match(target, source)
    return time.process_time() - start


def shape_score(target: object, source: object) -> float:
    """Eq. 1 of two layers."""
    t, s = target.shape, source.shape  # type: ignore[attr-defined]
    if target.kind != source.kind or len(t) != len(s):  # type: ignore[attr-defined]
        return 0.0
    return math.prod(min(x / y, y / x) for x, y in zip(t, s, strict=True))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--yardstick", type=int, default=9, metavar="N", help="targets to check in plain Python"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.device("meta"):
        modules = {name: timm.create_model(name) for name in ARCHITECTURES}
    start = time.process_time()
    blocks = {name: standardize(module) for name, module in modules.items()}
    standardization = (time.process_time() - start) / len(modules)

    print("similarity (Eq. 5), target by row")
    print(" " * 16 + "".join(f"{name[:13]:>15}" for name in ARCHITECTURES))
    for a in ARCHITECTURES:
        row = "".join(f"{block_similarity(blocks[a], blocks[b]):15.3f}" for b in ARCHITECTURES)
        print(f"{a:16}{row}")

    times: list[float] = []
    print("\nmilliseconds to match, with back-tracking")
    for a in ARCHITECTURES:
        row_times = []
        for b in ARCHITECTURES:
            start = time.process_time()
            match(blocks[a], blocks[b])
            row_times.append(time.process_time() - start)
        times += row_times
        print(f"{a:16}" + "".join(f"{1e3 * t:15.1f}" for t in row_times))
    print(
        f"\n{len(times)} pairs: mean {1e3 * sum(times) / len(times):.1f} ms, longest "
        f"{1e3 * max(times):.1f} ms; standardization {1e3 * standardization:.1f} ms a model"
    )

    plain, tables, fast, worst = 0.0, 0.0, 0.0, 0.0
    checked = [(a, b) for a in ARCHITECTURES[: options.yardstick] for b in ARCHITECTURES]
    for a, b in checked:
        start = time.process_time()
        expected = plain_score(blocks[a], blocks[b])
        plain += time.process_time() - start
        start = time.process_time()
        again = plain_score_from_tables(blocks[a], blocks[b])
        tables += time.process_time() - start
        start = time.process_time()
        got = match(blocks[a], blocks[b]).score
        fast += time.process_time() - start
        worst = max(worst, abs(got - expected), abs(got - again))
    if checked:
        print(
            f"plain Python on {len(checked)} pairs: {plain / len(checked):.3f} s a pair, "
            f"{plain / fast:.0f} times as long; with Eq. 1 once for a pair of layers "
            f"{tables / len(checked):.3f} s, {tables / fast:.0f} times as long; largest difference "
            f"in score {worst:.1e}"
        )
    growth()
    if worst > 1e-9:
        raise SystemExit("the scores differ by more than 1e-9")


if __name__ == "__main__":
    main()
