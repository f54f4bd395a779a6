"""Part 2 of ``reassembly.py``: candidates per second, against each one alone and the bare passes.

All times are CPU time of one thread, so other work on the machine hardly disturbs the ratios.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from reassembly_demo import load_demo
from torch import Tensor

from zoo_search.costs import Budget
from zoo_search.networks import ReassembledNet, Recipe, assemble
from zoo_search.networks.fitter import Joint
from zoo_search.networks.recipe import merge
from zoo_search.reassembly.scoring import Scorer, ScoringTask

Kept = tuple[dict[str, Tensor], float]


class Memory(dict[Joint, Kept]):
    """Keeps fitted stitches in memory."""

    def put(self, joint: Joint, tensors: dict[str, Tensor], r2: float) -> None:
        """Keep a stitch."""
        self[joint] = tensors, r2


def scoring(args: argparse.Namespace) -> dict[str, Any]:
    """Part 2: our scorer, one scorer a candidate, and nothing but the forward passes."""
    torch.set_num_threads(1)
    demo = load_demo(args.job)
    recipes = demo.space(4, Budget()).sample(args.candidates, seed=0)
    alone = random.Random(0).sample(recipes, min(args.alone, len(recipes)))
    rows = []
    for _ in range(args.repeats):
        memory = Memory()
        fresh = cpu(lambda kept=memory: score_all(demo.task, recipes, kept))
        fitted = cpu(lambda kept=memory: score_all(demo.task, recipes, kept))
        nets = networks(demo.task, recipes, memory)
        rows.append(
            {
                "scored_s": fresh / len(recipes),
                "scored_with_stitches_s": fitted / len(recipes),
                "bare_s": cpu(lambda nets=nets: forward_all(demo.task, nets)) / len(recipes),
                "alone_s": cpu(lambda: [score_all(demo.task, [r]) for r in alone]) / len(alone),
            }
        )
    best = {name: min(row[name] for row in rows) for name in rows[0]}
    ratios = {
        "candidates_a_second": 1 / best["scored_s"],
        "times_faster_than_alone": best["alone_s"] / best["scored_s"],
        "of_bare_passes": best["scored_with_stitches_s"] / best["bare_s"],
        "of_bare_passes_with_fits": best["scored_s"] / best["bare_s"],
    }
    print(f"part 2: {len(recipes)} candidates of {len(demo.zoo)} models, 1 thread, CPU time")
    print("  " + ", ".join(f"{name} {value:.4g}" for name, value in (best | ratios).items()))
    return {"candidates": len(recipes), **best, **ratios}


def cpu(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def score_all(task: ScoringTask, recipes: Sequence[Recipe], kept: Memory | None = None) -> None:
    """Score recipes as an actor of the search does."""
    scorer = Scorer(replace(task, keeper=kept))
    for recipe in recipes:
        outcome = scorer(recipe)
        assert outcome.scores, outcome.reason


def networks(task: ScoringTask, recipes: Sequence[Recipe], kept: Memory) -> list[ReassembledNet]:
    """Return the networks with the stitches that are there."""
    fitter = Scorer(replace(task, keeper=kept)).fitter
    return [
        assemble(r, task.zoo, num_classes=task.num_classes, fitter=fitter, copy_blocks=False)
        for r in recipes
    ]


@torch.inference_mode()
def forward_all(task: ScoringTask, nets: Sequence[ReassembledNet]) -> None:
    """Run every network on every batch; what networks have in common from the image on, once."""
    batches = Scorer(task).batches
    for batch in batches:
        chosen = batches.indices(batch)
        known: dict[Any, Tensor] = {}
        for net in nets:
            first = merge(net.recipe.blocks[:1])
            x = known[first] if first in known else batches.for_net(net, chosen)
            for count in range(1, len(net.blocks) + 1):
                key = merge(net.recipe.blocks[:count])
                if key not in known:
                    x = net.stitches[count - 2](x) if count > 1 else x
                    known[key] = net.blocks[count - 1](x.clone())
                x = known[key]
            net.forward_head(x)
