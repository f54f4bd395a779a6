"""Are FULL-TUNING's weights to be preferred to FROZEN-TUNING's, by a few validation images?

Of each training of the guides' table (``guides.py``: 28 recipes of two targets, three trainings
each, FROZEN- and then FULL-TUNING) it is known what validation images said of the end of both, and
what the test images say. Each rule takes one of the two by the former and is judged by the latter;
no rule was fitted to them.

python benchmarks/kept.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rule = Callable[[Floats, Floats, int], npt.NDArray[np.bool_]]

HELD_OUT = {"textures-10-large": 24, "mnist-20-small": 40}
"""Validation images of each training."""


def within(errors: float) -> Rule:
    """Return the rule that takes FULL unless it is worse by so many standard errors."""

    def rule(frozen: Floats, full: Floats, images: int) -> Bools:
        # Of the difference of two accuracies, as if other images had been looked at.
        error = np.sqrt(np.maximum(frozen * (1 - frozen), 0.5 / images) * 2 / images)
        return np.asarray(full >= frozen - errors * error)

    return rule


def pooled(frozen: Floats, full: Floats, images: int) -> Bools:
    """Take FULL where it is as good over all trainings of the network."""
    better = full.mean(1, keepdims=True) >= frozen.mean(1, keepdims=True)
    return np.broadcast_to(better, frozen.shape)


RULES: dict[str, Rule] = {
    "always FROZEN": lambda frozen, full, images: np.zeros(frozen.shape, dtype=np.bool_),
    "always FULL": lambda frozen, full, images: np.ones(frozen.shape, dtype=np.bool_),
    "FULL within two standard errors": within(2.0),
    "FULL within one standard error": within(1.0),
    "FULL if it is as good": within(0.0),
    "FULL if it is better": lambda frozen, full, images: full > frozen,
    "FULL if it is as good over the network's trainings": pooled,
}


def main() -> None:
    """Print for each target what each rule gives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    measured = Path(__file__).parent / "measured" / "guides.jsonl"
    parser.add_argument("--table", type=Path, default=measured, help="of guides.py")
    rows = [json.loads(line) for line in parser.parse_args().table.read_text("utf-8").splitlines()]
    for target, images in HELD_OUT.items():
        trainings = [row["trainings"] for row in rows if row["setting"] == target]
        frozen, full = (
            np.array([[t["test"][protocol] for t in each] for each in trainings])
            for protocol in ("frozen", "full")
        )
        # The curve holds the epochs of FROZEN-TUNING and then those of FULL-TUNING, as many.
        ends = [
            [(t["curve"][len(t["curve"]) // 2 - 1], t["curve"][-1]) for t in e] for e in trainings
        ]
        seen = np.array(ends)[..., 0]
        best = np.argsort(-np.maximum(frozen, full).mean(1))[:8]
        print(f"{target}: {len(trainings)} networks, {images} validation images")
        for name, rule in RULES.items():
            taken = np.where(rule(seen[..., 0], seen[..., 1], images), full, frozen)
            lost = (taken - frozen).mean(1)
            print(
                f"  {name:52s} {100 * taken.mean():5.1f} %, the best eight "
                f"{100 * taken[best].mean():5.1f} %; a point or more below FROZEN: "
                f"{(lost < -0.01).sum():2d}, the worst {100 * lost.min():+5.1f}"
            )


if __name__ == "__main__":
    main()
