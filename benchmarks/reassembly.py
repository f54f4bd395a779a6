"""How good and how fast reassembly is; ratios within one run.

Part 1: agreement of stitched Lite0-Lite1 networks with Lite1, without training. Part 2: candidates
per second. Part 3: samplers against the exhaustive best. Which proxy to trust: ``guides.py``.

    python benchmarks/reassembly.py --part 1,2 --out reassembly.json
    python benchmarks/reassembly.py --part 3 --scores scores.jsonl

Part 3 keeps what took long in a file, and goes on with it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from reassembly_scoring import scoring
from reassembly_search import search
from reassembly_stitching import stitching

from zoo_search.reassembly.samplers import SAMPLERS

PARTS = {1: stitching, 2: scoring, 3: search}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--part", default="1,2", help="which parts, such as 1,2")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON")
    parser.add_argument("--job", type=Path, default=Path("jobs/digits.yaml"), help="parts 2 and 3")
    parser.add_argument("--crops", type=int, default=256, help="part 1: crops to fit on")
    parser.add_argument("--test-crops", type=int, default=512, help="part 1: held-out crops")
    parser.add_argument("--candidates", type=int, default=200, help="part 2")
    parser.add_argument("--alone", type=int, default=12, help="part 2: candidates timed alone")
    parser.add_argument("--repeats", type=int, default=3, help="part 2")
    parser.add_argument("--scores", type=Path, default=Path("scores.jsonl"), help="part 3")
    parser.add_argument("--k", type=int, default=5, help="part 3: stages")
    parser.add_argument("--seeds", type=int, default=10, help="part 3")
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=SAMPLERS)
    parser.add_argument("--evaluations", nargs="+", type=int, default=[60, 120, 250, 500])
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    found = {part: PARTS[part](args) for part in map(int, args.part.split(","))}
    if args.out:
        args.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
