"""DPIAT on the nine architectures of its paper: similarities, times, and a plain Python yardstick.

    python benchmarks/dpiat.py                  # all 81 pairs, about twenty seconds
    python benchmarks/dpiat.py --yardstick 0    # without the plain Python

The yardstick is Eqs. 2 and 3 of the paper cell by cell, written independently of the library. It
must give the same scores to 1e-9. No weights are needed: everything runs on the meta device.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence

import timm
import torch

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
    start = time.perf_counter()
    blocks = {name: standardize(module) for name, module in modules.items()}
    standardization = (time.perf_counter() - start) / len(modules)

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
            start = time.perf_counter()
            match(blocks[a], blocks[b])
            row_times.append(time.perf_counter() - start)
        times += row_times
        print(f"{a:16}" + "".join(f"{1e3 * t:15.1f}" for t in row_times))
    print(
        f"\n{len(times)} pairs: mean {1e3 * sum(times) / len(times):.1f} ms, longest "
        f"{1e3 * max(times):.1f} ms; standardization {1e3 * standardization:.1f} ms a model"
    )

    plain, fast, worst = 0.0, 0.0, 0.0
    checked = [(a, b) for a in ARCHITECTURES[: options.yardstick] for b in ARCHITECTURES]
    for a, b in checked:
        start = time.perf_counter()
        expected = plain_score(blocks[a], blocks[b])
        plain += time.perf_counter() - start
        start = time.perf_counter()
        got = match(blocks[a], blocks[b]).score
        fast += time.perf_counter() - start
        worst = max(worst, abs(got - expected))
    if checked:
        print(
            f"plain Python on {len(checked)} pairs: {plain / len(checked):.2f} s a pair, "
            f"{plain / fast:.0f} times as long; largest difference in score {worst:.1e}"
        )
    if worst > 1e-9:
        raise SystemExit("the scores differ by more than 1e-9")


if __name__ == "__main__":
    main()
