"""Other ways to fit a stitch from few images than ``networks/spread.py``, on the same crops.

Each row is a way to fit; the columns are R² and agreement with Lite1 on held-out crops, means of
three turns (``stitch_spread.py``, part photographs). None of these is in the library.

    python benchmarks/stitch_rivals.py --depths 70 94 --images 50 200
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from reassembly_stitching import PHOTOGRAPHS, crops, lites
from stitch_spread import JOINTS, Features, features, held_out_agreement, joint, turns
from torch import Tensor

from zoo_search.core.identity import seeded
from zoo_search.networks.ridge import ALPHAS, fit_ridge, numbers_held_out, solve_ridge
from zoo_search.networks.spread import POWER, PairedMoments, keep_spread
from zoo_search.training.augment import light

Map = tuple[Tensor, Tensor]  # weight and bias


@dataclass(frozen=True)
class Sample:
    """What a stitch is fitted to: inputs and targets ``[B, C, H, W]``, and more views of them."""

    x: Tensor
    y: Tensor
    views: tuple[tuple[Tensor, Tensor], ...] = ()

    def moments(self, which: Tensor | None = None) -> PairedMoments:
        """Return the moments of all images, or of some."""
        keep = torch.ones(len(self.x), dtype=torch.bool) if which is None else which
        return moments(self.x[keep], self.y[keep])

    @property
    def alpha(self) -> float:
        """The penalty that a quarter of the images chooses, as in the library."""
        out = numbers_held_out(torch.arange(len(self.x)))
        return fit_ridge(self.moments(~out), self.moments(out)).alpha


def rows(x: Tensor) -> Tensor:
    """``[B, C, H, W]`` to ``[B·H·W, C]``."""
    return x.permute(0, 2, 3, 1).flatten(0, 2).double()


def moments(x: Tensor, y: Tensor) -> PairedMoments:
    """Return the moments of all positions."""
    found = PairedMoments(x.shape[1], y.shape[1])
    found.add(rows(x), rows(y))
    return found


def cross_validated(s: Sample) -> float:
    """Return the penalty of the least held-out error over four folds of whole images (Stone 1974).

    Training moments of a fold are those of all less its own.
    """
    fold = (torch.arange(len(s.x)) * 0.6180339887 % 1 * 4).long()
    errors = dict.fromkeys(ALPHAS, 0.0)
    for number in range(4):
        train, test = s.moments(fold != number), s.moments(fold == number)
        for alpha in ALPHAS:
            errors[alpha] += test.error(*solve_ridge(train, alpha))
    return min(errors, key=errors.__getitem__)


def ridge_cv(s: Sample) -> Map:
    """Least squares with that penalty."""
    return solve_ridge(s.moments(), cross_validated(s))


def towards_channels(s: Sample, alpha: float | None = None) -> Map:
    """Shrink towards the best single input channel of each output channel, not towards 0."""
    m = s.moments()
    sxx, sxy, scale = m.covariance()
    variance = sxx.diagonal().clamp_min(1e-12)
    best = (sxy**2 / variance[:, None]).argmax(0)
    places = torch.arange(len(best))
    prior = torch.zeros_like(sxy.T)
    prior[places, best] = sxy[best, places] / variance[best]
    penalised = sxx + (s.alpha if alpha is None else alpha) * scale * torch.eye(len(sxx))
    weight = prior + torch.linalg.solve(penalised, sxy - sxx @ prior.T).T
    return weight, m.bias(weight)


def low_rank(s: Sample, share: float) -> Map:
    """Reduced-rank regression (Izenman 1975): the strongest directions of the fitted outputs."""
    m = s.moments()
    weight, _ = solve_ridge(m, s.alpha)
    sxx, _, _ = m.covariance()
    keep = int(share * min(weight.shape))
    strongest = torch.linalg.eigh(weight @ sxx @ weight.T)[1][:, -keep:]
    weight = strongest @ strongest.T @ weight
    return weight, m.bias(weight)


def images_alike(s: Sample) -> Map:
    """Weigh each image by the inverse variance of its targets."""
    roots = s.y.var((1, 2, 3), keepdim=True).rsqrt()
    mx, my = s.x.mean((0, 2, 3), keepdim=True), s.y.mean((0, 2, 3), keepdim=True)
    weight, _ = solve_ridge(moments((s.x - mx) * roots, (s.y - my) * roots), s.alpha)
    return weight, s.moments().bias(weight)


def between_images(s: Sample, share: float) -> Map:
    """Weigh what differs between images against what differs within them."""
    x, y = (z - (1 - share) * z.mean((2, 3), keepdim=True) for z in (s.x, s.y))
    weight, _ = solve_ridge(moments(x, y), s.alpha)
    return weight, s.moments().bias(weight)


def each_channel(s: Sample) -> Map:
    """Least squares, each output channel then scaled to its targets' variance."""
    m = s.moments()
    weight, _ = solve_ridge(m, s.alpha)
    fitted = ((weight @ m.covariance()[0]) * weight).sum(1)
    scale = (m.target_covariance().diagonal() / fitted.clamp_min(1e-30)).sqrt()
    weight = scale[:, None] * weight
    return weight, m.bias(weight)


def viewed(s: Sample, power: float) -> Map:
    """Fit on the images and on views of them."""
    total = s.moments()
    for x, y in s.views:
        total = total + moments(x, y)
    return keep_spread(total, s.alpha, power)


FITS: Mapping[str, Callable[[Sample], Map]] = {
    "least squares": lambda s: solve_ridge(s.moments(), s.alpha),
    "least squares, penalty by cross-validation": ridge_cv,
    "towards the best channel": towards_channels,
    "towards the best channel, penalty 1": lambda s: towards_channels(s, 1.0),
    "rank 1/2": lambda s: low_rank(s, 0.5),
    "rank 3/4": lambda s: low_rank(s, 0.75),
    "images weighed alike": images_alike,
    "differences between images × 0.01": lambda s: between_images(s, 0.01),
    "differences between images × 2": lambda s: between_images(s, 2.0),
    "least squares on 3 views": lambda s: viewed(s, 1.0),
    "each channel's variance": each_channel,
    "spread kept": lambda s: keep_spread(s.moments(), s.alpha),
    "spread kept, penalty by cross-validation": lambda s: keep_spread(
        s.moments(), cross_validated(s)
    ),
    "spread kept on 3 views": lambda s: viewed(s, POWER),
}


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for every depth and number of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--depths", type=int, nargs="+", default=[70, 94], choices=JOINTS)
    parser.add_argument("--crops", type=int, default=720, help="of all photographs")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    zoo = lites()
    images = crops(zoo, PHOTOGRAPHS, args.crops, 0)
    found, *views = [features(zoo, images), *(features(zoo, seen) for seen in _views(images))]
    for depth in args.depths:
        for count in args.images:
            print(f"depth {depth} %, {count} images: held-out R², agreement")
            for name, fit in FITS.items():
                r2, agree = [], []
                for train, test in turns(args.crops):
                    stitch, _ = joint(zoo, found, depth, train[:count])
                    some, *more = [_pair(f, depth, train[:count]) for f in (found, *views)]
                    weight, bias = fit(Sample(*some, tuple(more)))
                    stitch.map.weight.copy_(weight.view_as(stitch.map.weight))
                    assert stitch.map.bias is not None
                    stitch.map.bias.copy_(bias)
                    unseen = moments(*_pair(found, depth, test))
                    spread = float(torch.trace(unseen.target_covariance()))
                    r2.append(1 - unseen.error(weight, bias) / spread)
                    agree.append(held_out_agreement(zoo, found, depth, stitch, test))
                figures = f"{statistics.mean(r2):6.3f}  {statistics.mean(agree):.3f}"
                print(f"  {name:42s}  {figures}", flush=True)


def _views(images: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return two more views of all images, turned, shifted, zoomed, mirrored and re-toned."""
    found = []
    for number in (1, 2):
        seen = {}
        for name, x in images.items():
            with seeded(f"view {number}"):
                seen[name] = torch.cat([light(part, 0.5) for part in x.split(60)])
        found.append(seen)
    return found


def _pair(found: Features, depth: int, images: Tensor) -> tuple[Tensor, Tensor]:
    out, into = found.joint(depth)
    return found.cuts[out][images], found.cuts[into][images]


if __name__ == "__main__":
    main()
