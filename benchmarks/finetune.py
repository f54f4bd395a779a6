"""How fast fine-tuning is, and what it needs: ratios within one run.

step     the training step against a bare loop in timm's style, images at hand
frozen   an epoch of FROZEN-TUNING with the features of the frozen prefix at hand, and without
workers  two workers of one core each against one worker of one core
whole    decoding, augmentation and training at once against the slower of the two alone
start    the time until the first step, of one network and of four, against a worker's imports
memory   of every process, for more and more images that are streamed through an epoch
device   images a second of three networks in fp32 and bf16 on a GPU, without Ray

python benchmarks/finetune.py --part step,frozen,workers,whole --out finetune.json
python benchmarks/finetune.py --part memory --images 1000 10000 100000
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from finetune_speed import device, frozen, step, workers
from finetune_streams import memory, start, whole

PARTS = {
    "step": step,
    "frozen": frozen,
    "workers": workers,
    "whole": whole,
    "start": start,
    "memory": memory,
    "device": device,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--part", default="step,frozen,workers,whole,start", help="which parts")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each that take turns")
    parser.add_argument("--size", type=int, default=96, help="pixels of an image")
    parser.add_argument("--batch", type=int, default=32, help="images a step")
    parser.add_argument("--count", type=int, default=512, help="images of an epoch")
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000], help="memory")
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    found = {}
    for part in args.part.split(","):
        print(f"{part}:", flush=True)
        found[part] = PARTS[part](args)
        print(json.dumps(found[part], indent=1), flush=True)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
