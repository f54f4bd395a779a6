"""What FULL-TUNING starts from: a network that does in training what it was fitted to do.

A block's batch norms hold the statistics of its own model's images. FROZEN-TUNING uses them, and
stitches and head are fitted under them; FULL-TUNING takes those of each step in their place, which
are others, since what a block gets comes through a stitch and from another data set. By that alone,
before anything has learned, the loss jumps (``benchmarks/full_start.py``).

So the statistics are made anew before the first step, block after block, from images as the
training will see them (REPAIR does so for merged networks: Jordan et al. 2022), and what follows a
block is fitted to what it gave before, from what now comes out of the block: a stitch, so that the
next block gets what it is used to, and at last the head. A head that does not fit would send
gradients through all blocks that undo them (Kumar et al. 2022).
"""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from zoo_search.core.identity import numpy_generator, seeded
from zoo_search.networks.groups import spread_scales
from zoo_search.networks.network import ReassembledNet
from zoo_search.networks.ridge import Moments, fit_ridge, numbers_held_out
from zoo_search.networks.stitch import Stitch
from zoo_search.networks.stitch_fit import fit_stitch
from zoo_search.training.augment import Augmentation
from zoo_search.training.images import ImageSource
from zoo_search.training.machine import (
    Machine,
    channels_last,
    copyable,
    device_of,
    is_out_of_memory,
)
from zoo_search.training.order import Ints, steps_of

_IMAGES, _VIEWS = 2048, 2
"""Most images, and most views of an image, that are looked at."""
_BYTES = 2**29
"""Most memory for what goes from block to block; fewer images where it would be more."""
_AT_ONCE = 64
"""Most images whose statistics are taken together."""


def renew(
    net: ReassembledNet, images: ImageSource, augment: Augmentation, machine: Machine, seed: int = 0
) -> bool:
    """Make statistics of batch norms, stitches and target head anew, in place, in eval mode.

    A stitch or a head stays as it is where a new one comes no nearer, on images held out of the
    fit, to what it gave before. Nothing is made anew in a network without batch norms, which does
    the same in both modes, nor where the device has no room or features are not finite. Workers
    that train a network together all do this, alike.

    Args:
        images: That the network will be trained on, uint8 ``[N, 3, H, W]``.
        augment: What will be done to them.
        seed: Of the choice of images, of what is done to them and of what the network draws.

    Returns:
        Whether anything was made anew.
    """
    if not any(isinstance(module, _BatchNorm) for module in net.modules()):
        return False
    net.eval()
    with copyable(net):
        before = copy.deepcopy(net)
    try:
        count = min(_IMAGES, int(_BYTES / _bytes_of(net)))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        count = 0
    at_once = min(_AT_ONCE, count)
    while at_once > 1:
        try:
            return _try(net, before, images, augment, machine, seed, count, at_once)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            # The training will say what is not finite.
            _put_back(net, before)
            return False
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            _put_back(net, before)
        at_once, count = at_once // 2, count // 2
        if device_of(net).type == "cuda":
            torch.cuda.empty_cache()
    machine.tell("the device has no room to renew what FULL-TUNING starts from: it may start badly")
    return False


@torch.no_grad()
def _bytes_of(net: ReassembledNet) -> float:
    """Return the bytes that an image takes between blocks where it takes most, in both networks."""
    x = torch.zeros(1, *net.input_size, device=device_of(net))
    sizes = [x.nbytes]
    for place, block in enumerate(net.blocks):
        x = block(x)
        sizes.append(x.nbytes)
        if place < len(net.stitches):
            x = net.stitches[place](x)
            sizes.append(x.nbytes)
    return 2.0 * max(sizes)


def _try(
    net: ReassembledNet,
    before: ReassembledNet,
    images: ImageSource,
    augment: Augmentation,
    machine: Machine,
    seed: int,
    count: int,
    at_once: int,
) -> bool:
    steps = _steps(len(images), count, at_once, augment.pairs, seed)
    if not steps:
        return False
    held = [numbers_held_out(torch.from_numpy(step)).to(device_of(net)) for _, step in steps]
    seen = list(_seen(net, images, augment, machine, steps))
    with seeded(f"renew {seed}"):
        _renew(net, before, seen, held, machine)
    return True


def _steps(images: int, count: int, at_once: int, even: bool, seed: int) -> list[tuple[str, Ints]]:
    """Return what is looked at together, and the name of the draw that changes the images.

    Images are drawn one by one, whatever they lie beside: what a file holds together is often of
    one class.
    """
    found = []
    for view in range(max(1, min(_VIEWS, count // max(1, images)))):
        draw = f"renew {seed} {view}"
        order = numpy_generator(draw).permutation(images)[:count]
        parts = steps_of(order, at_once, even=even)
        found += [(draw, part) for part in parts if len(part) > 1]
    return found


def _seen(
    net: ReassembledNet,
    images: ImageSource,
    augment: Augmentation,
    machine: Machine,
    steps: Sequence[tuple[str, Ints]],
) -> Iterator[Tensor]:
    """Yield normalised images as the training sees them."""
    device = device_of(net)
    for draw, group in itertools.groupby(steps, key=operator.itemgetter(0)):
        wanted = [step for _, step in group]
        for step, (x, y) in zip(wanted, images.read(wanted, draw), strict=True):
            machine.beat()
            with seeded(draw, step[0]):
                x, _ = augment(x.to(device), y.to(device), np.arange(len(x)), len(x))
            yield channels_last(x)


@torch.no_grad()
def _renew(
    net: ReassembledNet,
    before: ReassembledNet,
    now: list[Tensor],
    held: Sequence[Tensor],
    machine: Machine,
) -> None:
    """Renew a network in eval mode; ``now`` holds its inputs, and is used up."""

    def through(module: nn.Module, xs: list[Tensor]) -> None:
        for place, x in enumerate(xs):  # one by one, so that one list of maps is there at a time
            xs[place] = module(x)
        machine.beat()

    was = list(now)
    taps: list[list[Tensor]] = [[] for _ in now]  # of each step, what the taps give now
    tapped: list[list[Tensor]] = [[] for _ in now]  # and what they gave before
    for place, (block, old) in enumerate(zip(net.blocks, before.blocks, strict=True)):
        # A cumulative mean; a block without batch norms is left alone. What is dropped out in
        # training mode may be dropped in place.
        update_bn((x.clone() for x in now), block)
        through(block, now)
        through(old, was)
        if place == len(net.stitches):
            break
        if net.taps:
            for kept, x in zip((*taps, *tapped), (*now, *was), strict=True):
                kept.append(net.taps[place](x))
        stitch = net.stitches[place]
        through(before.stitches[place], was)
        if isinstance(stitch, Stitch):
            fit_stitch(stitch, zip(now, was, strict=True), held, keep=True)
        through(stitch, now)
    if net.recipe.head == "target":
        assert isinstance(net.head, nn.Linear)
        wanted = [before.forward_head(x, own) for x, own in zip(was, tapped, strict=True)]
        read = [net.pooled(x, own).double() for x, own in zip(now, taps, strict=True)]
        _fit_head(net.head, read, wanted, held, net.widths)


def _fit_head(
    head: nn.Linear,
    features: Sequence[Tensor],
    wanted: Sequence[Tensor],
    held: Sequence[Tensor],
    widths: Sequence[int] | None = None,
) -> None:
    """Fit a head to logits, and take it if it comes nearer to those held out than the old one.

    Where there are more classes than so many images can tell apart, it does not. ``widths``
    are how many features come from each block; for the fit they are brought to equal spread.
    """
    scales = spread_scales(torch.cat(list(features)), widths or [head.in_features])
    device = features[0].device
    train, test = (Moments(head.in_features, head.out_features, device) for _ in range(2))
    for x, y, out in zip(features, wanted, held, strict=True):
        train.add(x[~out] * scales, y[~out])
        test.add(x[out] * scales, y[out])
    fit = fit_ridge(train, test)
    old = copy.deepcopy(head)
    old.weight.div_(scales)
    if fit.better_than(old, test):
        replace(fit, weight=fit.weight * scales).put_into(head)


def _put_back(net: ReassembledNet, before: ReassembledNet) -> None:
    net.load_state_dict(before.state_dict())
    for module, was in zip(net.modules(), before.modules(), strict=True):
        if isinstance(module, _BatchNorm) and isinstance(was, _BatchNorm):
            module.momentum = was.momentum  # of an update that came to no end
    net.eval()
