"""How well stitches hold on held-out images, by the spread that they keep and the images to fit on.

Photographs: the beginning of Lite0 stitched to the rest of Lite1, whose top-1 class is to come out;
fitted on crops of two thirds of the photographs, counted on crops of the others, in turn. Turned:
the same with a new head, that tells by how many right angles a crop was turned. Digits:
random recipes of the demo with a fitted head, before any training and (``--frozen``) after
FROZEN-TUNING on the same images; validation images are training images that nothing was fitted on.
Power 1 is least squares.

    python benchmarks/stitch_spread.py --part photographs --powers 1 0.7 0.4 0.2 0
    python benchmarks/stitch_spread.py --part turned --images 200 --powers 1 0.7 0.4
    python benchmarks/stitch_spread.py --part digits --recipes 40
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from reassembly_demo import load_demo
from reassembly_stitching import PHOTOGRAPHS, agreement, crops, lites
from torch import Tensor
from torch.nn import functional as F

import zoo_search as zs
from zoo_search.config import DatasetConfig
from zoo_search.data import open_dataset
from zoo_search.networks.assemble import assemble
from zoo_search.networks.fitter import StitchFitter
from zoo_search.networks.ridge import fit_ridge, split_moments
from zoo_search.networks.spread import POWER
from zoo_search.networks.stitch import Stitch
from zoo_search.networks.stitch_fit import fit_stitch
from zoo_search.networks.target_images import as_input, load_target
from zoo_search.training.accuracy import accuracy
from zoo_search.training.images import InMemory
from zoo_search.training.schedules import get_schedule
from zoo_search.training.train import train

JOINTS = {30: (5, 7), 50: (8, 11), 70: (11, 15), 94: (15, 20)}
"""By depth in percent: cuts of Lite0 and Lite1 where the same stage ends."""
TURNS = 3
"""Every third photograph is held out in a turn."""


class Features(NamedTuple):
    """What both nets give on the same crops: at the cuts, and their classes."""

    cuts: dict[tuple[str, int], Tensor]
    classes: dict[str, Tensor]
    names: tuple[str, str] = ("lite0", "lite1")

    def joint(self, depth: int) -> tuple[tuple[str, int], tuple[str, int]]:
        """Return where the first net is left and where the second is entered."""
        cuts = dict(zip(("lite0", "lite1"), JOINTS[depth], strict=True))
        before, after = self.names
        return (before, cuts[before]), (after, cuts[after])


@torch.no_grad()
def features(zoo: zs.Zoo, images: dict[str, Tensor]) -> Features:
    """Run both nets on crops."""
    cuts, classes = {}, {}
    for place, (name, model) in enumerate(zoo.items()):
        wanted = [pair[place] for pair in JOINTS.values()]
        parts: dict[int, list[Tensor]] = {cut: [] for cut in wanted}
        top = []
        for batch in images[name].split(48):
            x = as_input(batch, model.graph.input_size, model.transform)
            for cut, node in enumerate(model.graph.nodes, start=1):
                x = node(x)
                if cut in parts:
                    parts[cut].append(x.clone())
            top.append(model.graph.head(x).argmax(1))
        cuts |= {(name, cut): torch.cat(found) for cut, found in parts.items()}
        classes[name] = torch.cat(top)
    return Features(cuts, classes)


def turns(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield which crops are there to fit on, and which are held out."""
    photograph = torch.arange(count) % len(PHOTOGRAPHS)
    for turn in range(TURNS):
        out = photograph % TURNS == turn
        yield (~out).nonzero().flatten(), out.nonzero().flatten()


def joint(
    zoo: zs.Zoo, found: Features, depth: int, fit: Tensor
) -> tuple[Stitch, list[tuple[Tensor, Tensor]]]:
    """Return a stitch at a depth, and what it is fitted to."""
    ends = found.joint(depth)
    stitch = Stitch(*(zoo[name].graph.cuts[cut] for name, cut in ends))
    pairs = [found.cuts[end][fit] for end in ends]
    return stitch, list(zip(*(x.split(64) for x in pairs), strict=True))


@torch.no_grad()
def through(
    zoo: zs.Zoo, found: Features, depth: int, stitch: Stitch, which: Tensor
) -> Iterator[Tensor]:
    """Yield the features that the stitched net gives for crops, before the head."""
    out, (after, into) = found.joint(depth)
    for part in which.split(80):
        x = stitch(found.cuts[out][part])
        for node in zoo[after].graph.nodes[into:]:
            x = node(x)
        yield x


@torch.no_grad()
def held_out_agreement(
    zoo: zs.Zoo, found: Features, depth: int, stitch: Stitch, test: Tensor
) -> float:
    """Return how often the stitched net gives the second net's class on held-out crops."""
    name = found.names[1]
    head = zoo[name].graph.head
    classes = [head(x).argmax(1) for x in through(zoo, found, depth, stitch, test)]
    return agreement(torch.cat(classes), found.classes[name][test])


def photographs(args: argparse.Namespace) -> None:
    """Print agreement by depth, images to fit on and power, and what a fit costs."""
    zoo = lites()
    found = features(zoo, crops(zoo, PHOTOGRAPHS, args.crops, 0))
    if args.reverse:
        found = found._replace(names=("lite1", "lite0"))
    whole = [
        agreement(found.classes["lite0"][test], found.classes["lite1"][test])
        for _, test in turns(args.crops)
    ]
    print(f"The nets themselves agree on {statistics.mean(whole):.3f} of the held-out crops")
    print("depth  images  " + "  ".join(f"power {p:<4g}" for p in args.powers) + "  time of a fit")
    for depth, count in itertools.product(args.depths, args.images):
        rows: dict[float, list[float]] = {power: [] for power in args.powers}
        seconds = dict.fromkeys(args.powers, 0.0)
        for fit, test in turns(args.crops):
            for power in args.powers:
                stitch, batches = joint(zoo, found, depth, fit[:count])
                start = time.process_time()
                fit_stitch(stitch, batches, power=power)
                seconds[power] += time.process_time() - start
                rows[power].append(held_out_agreement(zoo, found, depth, stitch, test))
        means = "  ".join(f"{statistics.mean(row):10.3f}" for row in rows.values())
        costs = " ".join(f"{s / TURNS:.3f}" for s in seconds.values())
        print(f"{depth:4d}%  {count:6d}  {means}  {costs} s", flush=True)


def turned(args: argparse.Namespace) -> None:
    """Print how often a new head on stitched nets tells by how many right angles a crop is turned.

    Crops are drawn and turned at random; stitch and head are fitted on the same ones.
    """
    zoo = lites()
    turn = torch.randint(4, (args.crops,), generator=torch.Generator().manual_seed(0))
    images = {
        name: torch.stack(
            [torch.rot90(x, int(k), (1, 2)) for x, k in zip(found, turn, strict=True)]
        )
        for name, found in crops(zoo, PHOTOGRAPHS, args.crops, 0).items()
    }
    found = features(zoo, images)
    print("depth  images  " + "  ".join(f"power {p:<4g}" for p in args.powers))
    for depth, count in itertools.product(args.depths, args.images):
        means = []
        for power in args.powers:
            right = []
            for fit, test in turns(args.crops):
                few = fit[:count]
                stitch, batches = joint(zoo, found, depth, few)
                fit_stitch(stitch, batches, power=power)
                pooled = [
                    torch.cat([x.mean((2, 3)) for x in through(zoo, found, depth, stitch, which)])
                    for which in (few, test)
                ]
                head = fit_ridge(*split_moments(pooled[0], F.one_hot(turn[few])))
                says = (pooled[1].double() @ head.weight.T + head.bias).argmax(1)
                right.append(agreement(says, turn[test]))
            means.append(statistics.mean(right))
        print(f"{depth:4d}%  {count:6d}  " + "  ".join(f"{m:10.3f}" for m in means), flush=True)


def digits(args: argparse.Namespace) -> None:
    """Print the accuracy of random recipes as fitted, or after FROZEN-TUNING."""
    demo = load_demo(args.job)
    space = demo.space(4)
    recipes = [r for r in space.sample(3 * args.recipes, 1) if len(r.runs) > 1][: args.recipes]
    asked = demo.job.finetune.schedule
    schedule = get_schedule(asked.name, **asked.overruled())
    data = open_dataset(DatasetConfig(name="digits"), 0)
    images, labels = load_target(data.select("train", seed=0), demo.zoo)
    assert isinstance(images, dict)
    print("images  power  accuracy  better, worse than power 1 (recipes)", flush=True)
    for count in args.images:
        base: list[float] = []
        for power in dict.fromkeys([1.0, *args.powers]):
            few = {name: x[:count] for name, x in images.items()}
            fitter = StitchFitter(demo.zoo, few, chained=True).keeping(power)
            right = []
            for recipe in recipes:
                net = assemble(recipe, demo.zoo, labels=labels[:count], fitter=fitter)
                first = recipe.blocks[0].model
                transform = demo.zoo[first].transform
                if args.frozen:
                    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                    seen = InMemory(few[first], labels[:count])
                    how: Any = {"num_classes": 10, "transform": transform, "schedule": schedule}
                    train(net, seen, protocol="frozen", **how)
                unseen = InMemory(images[first][-args.held_out :], labels[-args.held_out :])
                right.append(accuracy(net, unseen, transform))
            base = base or right
            better = sum(a > b for a, b in zip(right, base, strict=True))
            worse = sum(a < b for a, b in zip(right, base, strict=True))
            mean = statistics.mean(right)
            print(f"{count:6d}  {power:5g}  {mean:8.3f}  {better}, {worse}", flush=True)


PARTS = {"photographs": photographs, "turned": turned, "digits": digits}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--part", choices=PARTS, default="photographs")
    parser.add_argument("--powers", type=float, nargs="+", default=[1.0, POWER])
    parser.add_argument("--images", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument("--depths", type=int, nargs="+", default=list(JOINTS), choices=JOINTS)
    parser.add_argument("--crops", type=int, default=720, help="of all photographs")
    parser.add_argument("--recipes", type=int, default=40, help="random recipes of the demo")
    parser.add_argument("--held-out", type=int, default=600, help="validation images of the digits")
    parser.add_argument("--reverse", action="store_true", help="photographs: Lite1, then Lite0")
    parser.add_argument("--frozen", action="store_true", help="digits: after FROZEN-TUNING")
    parser.add_argument("--job", type=Path, default=Path("jobs/digits.yaml"))
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    PARTS[args.part](args)


if __name__ == "__main__":
    main()
