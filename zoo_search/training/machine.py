"""How a training runs where it runs: the device, and who else trains the same network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from zoo_search.training.precision import has_bf16

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """The processes that train one network together, and which of them this one is.

    Attributes:
        group: Of ``torch.distributed``; None where there is one worker only.
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    def say(self, value: T) -> T:
        """Return what the first worker says."""
        if self.size == 1:
            return value
        said = [value]
        torch.distributed.broadcast_object_list(said, group=self.group, group_src=0)
        return said[0]

    def agree(self, module: nn.Module) -> None:
        """Give all workers the first one's statistics of batch norms and other buffers."""
        for buffer in module.buffers() if self.size > 1 else ():
            torch.distributed.broadcast(buffer, group=self.group, group_src=0)

    def add_up(self, values: Tensor) -> Tensor:
        """Add what all workers hold, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(values, group=self.group)
        return values


ALONE = Workers()


@dataclass(frozen=True)
class Machine:
    """The device of a worker, and how it is used.

    Attributes:
        device: None: the device of the network.
        precision: ``"bf16"``: forward passes in autocast; weights and sums stay in fp32.
        compile: Compile the network with ``torch.compile``.
        sync_bn: Batch norms take their statistics over all workers; needs GPUs.
        parts: A worker's share of a step goes through the network in so many parts, and their
            gradients are added up: the batch of a step, and with it the rate, stay what they are.
        cache_bytes: Most bytes for features of a frozen prefix (:mod:`.prefix`).
        tell: Is told in a sentence what was changed to go on.
        beat: Is called now and then in what takes long and is no step.
        short: Is told in how many parts a share has to go, where memory is short.
    """

    device: torch.device | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    sync_bn: bool = False
    parts: int = 1
    cache_bytes: int = 2**30
    workers: Workers = ALONE
    tell: Callable[[str], None] = lambda line: None
    beat: Callable[[], None] = lambda: None
    short: Callable[[int], None] = lambda parts: None

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context of a forward pass."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return a module that is called in the place of ``module`` and trains its parameters.

        Over several workers the gradients that it leaves are the mean of theirs (DDP).
        """
        if self.workers.size > 1:
            if self.sync_bn:
                from timm.layers import norm_act

                module = norm_act.convert_sync_batchnorm(module, self.workers.group)  # type: ignore[no-untyped-call]
            # Parts of a block may have parameters that nothing asks for, such as an unused norm.
            module = nn.parallel.DistributedDataParallel(
                module,
                process_group=self.workers.group,
                find_unused_parameters=True,
                gradient_as_bucket_view=True,
            )
        if self.compile:
            return cast("nn.Module", torch.compile(module))
        return module


@contextmanager
def copyable(net: nn.Module) -> Iterator[None]:
    """Let a network be copied: synchronised norms hold a group of processes, which nobody can copy.

    Those of the copy hold none.
    """
    held = [(m, m.process_group) for m in net.modules() if isinstance(m, nn.SyncBatchNorm)]
    for norm, _ in held:
        norm.process_group = None
    try:
        yield
    finally:
        for norm, group in held:
            norm.process_group = group


HERE = Machine()
"""This process alone, on the device of the network."""


def resolved(
    precision: Literal["auto", "fp32", "bf16"], device: torch.device
) -> Literal["fp32", "bf16"]:
    """Return what ``auto`` means on a device: bf16 on GPUs that compute in it, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if device.type != "cpu" and has_bf16(device) else "fp32"


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether a device, or the memory of a CPU, has no room for what was asked of it."""
    text = str(error)
    marks = ("out of memory", "DefaultCPUAllocator", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(mark in text for mark in marks)


def device_of(net: Any) -> torch.device:
    """Return where a network's parameters lie."""
    return next(iter(net.parameters())).device  # type: ignore[no-any-return]


def channels_last(x: Tensor) -> Tensor:
    """Return maps in the layout in which convolutions run up to twice as fast."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
