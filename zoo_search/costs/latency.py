"""Latency measured on this device: blocks, stitches and heads on their own, added up.

The sum leaves out what the parts do to each other (caches, launches that overlap), so a run that
relies on it states its error against whole networks (:func:`additive_error`).
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from zoo_search.linegraph.graph import Cut, LineGraph
from zoo_search.networks.network import Pool, ReassembledNet
from zoo_search.networks.recipe import BlockRef, Head, Recipe
from zoo_search.networks.stitch import Stitch


@dataclass(frozen=True)
class Timer:
    """How a module is timed: the median of ``repeats`` runs behind ``warmup`` that do not count."""

    batch: int = 1  # images a run
    threads: int | None = None  # of the CPU; None: as many as torch takes
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    warmup: int = 5
    repeats: int = 25

    def __call__(self, module: nn.Module, shape: Sequence[int]) -> int:
        """Return the nanoseconds that a batch of inputs of ``shape`` (of one image) takes."""
        device = torch.device(self.device)
        if device.type != "cpu":
            module = copy.deepcopy(module).to(device)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.batch, *shape, generator=generator).to(device)
        run = _on_gpu if device.type == "cuda" else _on_cpu
        with _settled(self.threads), torch.inference_mode():
            for _ in range(self.warmup):
                run(module, x)
            return round(statistics.median(run(module, x) for _ in range(self.repeats)))

    def settings(self) -> dict[str, str | int]:
        """Return what a figure depends on beside the network."""
        name = self.device
        if torch.device(self.device).type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        threads = self.threads or torch.get_num_threads()
        version = str(torch.__version__)
        return {"device": name, "batch": self.batch, "threads": threads, "torch": version}


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """Nanoseconds of blocks, stitches and heads, each measured when first asked for."""

    graphs: Mapping[str, LineGraph]
    num_classes: int
    timer: Timer = Timer()
    measured: dict[str, int] = field(default_factory=dict)

    def recipe(self, recipe: Recipe) -> int:
        """Return the nanoseconds of a recipe: the sum over its blocks, stitches and head."""
        blocks = recipe.blocks
        total = sum(map(self.block, blocks))
        for block in blocks if recipe.tapped else blocks[-1:]:
            total += self.head(block, recipe.head)
        return total + sum(map(self.stitch, blocks[:-1], blocks[1:]))

    def block(self, block: BlockRef) -> int:
        """Return the nanoseconds of a block."""
        graph = self.graphs[block.model]
        nodes = graph.nodes[block.start : block.stop]
        return self._get(
            f"block {block}", lambda: nn.Sequential(*(n.module for n in nodes)),
            graph.cuts[block.start].shape,
        )  # fmt: skip

    def stitch(self, before: BlockRef, after: BlockRef) -> int:
        """Return the nanoseconds of the stitch between two blocks; 0 for neighbours."""
        if before.precedes(after):
            return 0
        source = self.graphs[before.model].cuts[before.stop]
        target = self.graphs[after.model].cuts[after.start]
        key = f"stitch {_form(source)} -> {_form(target)}"  # shared by all cuts of one form
        return self._get(key, lambda: Stitch(source, target).eval(), source.shape)

    def head(self, last: BlockRef, head: Head) -> int:
        """Return the nanoseconds of pooling and head on the last block."""
        graph = self.graphs[last.model]
        cut = graph.cuts[last.stop]
        if head == "source":
            return self._get(f"head {last.model}", lambda: graph.head, cut.shape)
        return self._get(
            f"head {self.num_classes} classes, {_form(cut)}",
            lambda: nn.Sequential(Pool(cut), nn.Linear(cut.channels, self.num_classes)),
            cut.shape,
        )

    def _get(self, key: str, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> int:
        if key not in self.measured:
            self.measured[key] = self.timer(make(), shape)
        return self.measured[key]


@dataclass(frozen=True)
class AdditiveError:
    """By how much sums of parts are off whole networks: ``|sum - whole| / whole``."""

    median: float
    worst: float
    recipes: int

    def __str__(self) -> str:
        return (
            f"off by {self.median:.0%} in the median and {self.worst:.0%} at worst against "
            f"{self.recipes} whole networks"
        )


def additive_error(table: LatencyTable, networks: Sequence[ReassembledNet]) -> AdditiveError:
    """Measure built networks (at least one) as wholes and compare them with the table's sums."""
    errors = []
    for network in networks:
        whole = table.timer(network.eval(), network.input_size)
        errors.append(abs(table.recipe(network.recipe) - whole) / whole)
    return AdditiveError(statistics.median(errors), max(errors), len(errors))


def _on_cpu(module: nn.Module, x: Tensor) -> float:
    x = x.clone()  # a module may work in place
    started = time.perf_counter_ns()
    module(x)
    return time.perf_counter_ns() - started


def _on_gpu(module: nn.Module, x: Tensor) -> float:
    x = x.clone()
    # The clock of the GPU itself: launches return at once, so that of the CPU would see nothing of
    # the work, and a synchronisation around every run would count as a part of it.
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    module(x)
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) * 1e6


@contextmanager
def _settled(threads: int | None) -> Iterator[None]:
    """Set the threads, and take denormal numbers for 0.

    Stitches that are not fitted yet make denormals, which are several times as slow on a CPU.
    """
    # torch tells nobody whether denormals are flushed; a product that is one tells it.
    before, flushed = torch.get_num_threads(), float(torch.tensor(1e-40) * 1) == 0
    torch.set_num_threads(threads or before)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(flushed)


def _form(cut: Cut) -> str:
    """Name what a stitch or a head depends on at a cut."""
    form = f"{cut.layout} {cut.channels}x{cut.grid[0]}x{cut.grid[1]}+{cut.prefix_tokens}"
    blocked = f" in {cut.windows}" if cut.windows > 1 else ""
    return form + blocked + ("" if cut.order is None else " reordered")
