"""What this machine has: cores, memory, GPUs."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """Cores that this process may use, memory in bytes, and the GPUs by name and memory in bytes.

    Attributes:
        problem: Why torch cannot tell of GPUs; empty where it can.
    """

    cores: int
    memory: int
    free: int
    gpus: tuple[tuple[str, int], ...]
    problem: str = ""


def look_up() -> Hardware:
    """Return what this machine has; imports torch."""
    import psutil

    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    gpus: list[tuple[str, int]] = []
    problem = ""
    try:
        import torch

        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            facts = torch.cuda.get_device_properties(index)
            gpus.append((facts.name, int(facts.total_memory)))
    except (ImportError, OSError) as error:
        problem = str(error)
    return Hardware(cores, int(memory.total), int(memory.available), tuple(gpus), problem)
