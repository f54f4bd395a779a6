"""Small real things that the suites work on: networks of two kinds, pictures, recipes."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from zoo_search.core.identity import seeded
from zoo_search.core.imports import import_timm
from zoo_search.costs import Budget, CostTable
from zoo_search.linegraph import LineGraph, trace
from zoo_search.networks import BlockRef, Recipe
from zoo_search.networks.parents import Parent
from zoo_search.partitions.result import Partition, PartitionBlock
from zoo_search.reassembly.space import Space

T = TypeVar("T")

CLASSES = 3
"""Classes of the target's images."""

_SIZE = 32
_SOURCE_CLASSES = 7
_ARCHITECTURES: dict[str, tuple[str, dict[str, object]]] = {
    "conv": ("test_efficientnet", {}),
    "resnet": ("test_resnet", {}),
    "vit": (
        "vit_tiny_patch16_224",
        {"img_size": _SIZE, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 2},
    ),
}

RECIPES = {
    "conv": Recipe((BlockRef("conv", 0, 5),)),
    "vit": Recipe((BlockRef("vit", 0, 4),)),
    "conv into vit": Recipe((BlockRef("conv", 0, 3), BlockRef("vit", 2, 4))),
    "vit into conv": Recipe((BlockRef("vit", 0, 2), BlockRef("conv", 3, 5))),
}
"""Recipes of a convolutional network, a ViT with a class token, and of both ways to mix them."""


def small_module(name: str, seed: int = 0, **options: object) -> nn.Module:
    """Return ``conv``, ``resnet`` or ``vit``, in eval mode; ``options`` are arguments for timm."""
    arch, own = _ARCHITECTURES[name]
    with seeded("small zoo", name, seed):
        module: nn.Module = import_timm().create_model(
            arch, num_classes=_SOURCE_CLASSES, **{**own, **options}
        )
    return module.eval()


@functools.cache
def _graphs() -> dict[str, LineGraph]:
    return {name: trace(small_module(name), (3, _SIZE, _SIZE), name) for name in _ARCHITECTURES}


def small_zoo(*names: str, copied: bool = False) -> dict[str, Parent]:
    """Return models for images of 32 pixels by name; default: all three.

    Copied ones have weights of their own; else every caller has the same ones, to be left alone.
    """
    graphs = {name: _graphs()[name] for name in names or _graphs()}
    return {name: Parent(copy.deepcopy(g) if copied else g) for name, g in graphs.items()}


def smooth_images(count: int, size: int = _SIZE, seed: int = 1) -> Tensor:
    """Return smooth random pictures, uint8 ``[count, 3, size, size]``."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    fine = nn.functional.interpolate(coarse, size=size, mode="bilinear")
    return (fine * 255).to(torch.uint8)


def partition_of(k: int, blocks: Iterable[tuple[str, int, int, int, int]]) -> Partition:
    """Return a partition of blocks ``(model, start, stop, stage, set)``."""
    return Partition(
        k=k, eps=0.2, size="nodes", method="exact", objective=0.0, upper_bound=None, anchors=(),
        blocks=tuple(PartitionBlock(*block, similarity=1.0) for block in blocks), restarts=(),
    )  # fmt: skip


def even_partition(
    graphs: Mapping[str, LineGraph], k: int, sets: Mapping[str, Sequence[int]] | None = None
) -> Partition:
    """Return a partition of every model into k blocks of about as many nodes.

    ``sets`` gives the set at each stage for some models; else stage s is set s.
    """
    blocks = []
    for name, graph in graphs.items():
        cuts = [round(len(graph) * stage / k) for stage in range(k + 1)]
        own = (sets or {}).get(name, range(k))
        blocks += [
            (name, start, stop, stage, own[stage])
            for stage, (start, stop) in enumerate(itertools.pairwise(cuts))
        ]
    return partition_of(k, blocks)


def small_space(budget: Budget | None = None) -> Space:
    """Return a space of 30 feasible recipes among 81 (with its own budget).

    Of the others some are over the budget, and some have two blocks of one set.
    """
    graphs = _graphs()
    partition = even_partition(graphs, 4, {"resnet": [0, 2, 1, 3]})
    return Space(partition, CostTable(graphs, CLASSES), budget or Budget(max_params=2.6e5))


def modes_of(module: nn.Module) -> dict[str, object]:
    """Return what a call might change in a network beside its tensors."""
    modes: dict[str, object] = {}
    for name, part in module.named_modules():
        hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks)
        modes[f"{name}: training"] = part.training
        modes[f"{name}: hooks"] = [len(hook) for hook in hooks]
    return modes | {f"{n}: trained": p.requires_grad for n, p in module.named_parameters()}


def state_of(module: nn.Module) -> dict[str, object]:
    """Return copies of all that a call might change in a network, and which tensors it has."""
    state = modes_of(module)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        state[name] = tensor.detach().clone()
        state[f"{name}: itself"] = id(tensor)
        state[f"{name}: gradient"] = copy.deepcopy(tensor.grad)
    return state


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of what is not the same, bit by bit."""

    def same(name: str) -> bool:
        a, b = before.get(name), after.get(name)
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            return a.dtype == b.dtype and torch.equal(a, b)
        return not isinstance(a, Tensor) and not isinstance(b, Tensor) and a == b

    return tuple(name for name in {**before, **after} if not same(name))


def process_state() -> dict[str, object]:
    """Return what a call that should leave no trace could leave one in."""
    return {
        "Python's random state": random.getstate(),
        "NumPy's random state": repr(np.random.get_state()),
        "torch's random state": torch.random.get_rng_state(),
        "gradient mode": torch.is_grad_enabled(),
        "torch's default type": torch.get_default_dtype(),
    }


@contextlib.contextmanager
def nothing_else_touched() -> Iterator[None]:
    """Check that a block leaves random states, gradient mode and default type as they were."""
    before = process_state()
    yield
    changed = differences(before, process_state())
    assert not changed, f"{', '.join(changed)}: changed"


def travelled(thing: T) -> T:
    """Return what a worker gets of a thing: by value, as Ray sends it."""
    from ray import cloudpickle

    there: T = cloudpickle.loads(cloudpickle.dumps(thing))  # type: ignore[no-untyped-call]
    return there
