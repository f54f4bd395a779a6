"""What this machine or cluster has, what is wrong with it, and what to do."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from zoo_search.errors import UserError, first_line

__all__ = ["Check", "examine"]

State = Literal["ok", "note", "bad"]
_PACKAGES = (
    "torch", "torchvision", "timm", "ray", "optuna", "ortools", "pyarrow", "numpy", "pydantic",
)  # fmt: skip
_FREE_DISK = 5e9
_FREE_MEMORY = 2e9


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    found: str
    state: State = "ok"
    cure: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the check as JSON-ready values."""
        return asdict(self)


def examine(address: str | None = None, directory: str = ".") -> list[Check]:
    """Look at versions, torch with torchvision, devices, memory, disk, and Ray on every node.

    Args:
        address: Ray cluster to ask; None: ``RAY_ADDRESS``, else a local one is started.
        directory: Where runs are to be kept.
    """
    return [
        *_python(),
        *_packages(),
        _torch_pair(),
        *_devices(),
        _memory(),
        _disk(directory),
        *_ray(address),
    ]


def _python() -> Iterator[Check]:
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    cure = "" if fits else "zoo-search needs Python 3.11 to 3.13."
    yield Check("python", platform.python_version(), "ok" if fits else "bad", cure)


def _versions() -> dict[str, str | None]:
    """Return the installed version of each package, None where it is missing."""
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _packages() -> Iterator[Check]:
    for name, version in _versions().items():
        if version is None:
            yield Check(name, "missing", "bad", f"pip install -c constraints.txt {name}")
        else:
            yield Check(name, version)


def _torch_pair() -> Check:
    """Run one operator that torchvision compiles against torch: it fails where the two differ."""
    try:
        import torch
        from torchvision.ops import nms

        kept = nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return Check(
            "torch with torchvision",
            first_line(error),
            "bad",
            "torch and torchvision do not match. Install the pair of constraints.txt: "
            "pip install -c constraints.txt torch torchvision",
        )
    return Check("torch with torchvision", f"match (nms kept {len(kept)} box)")


def _devices() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check("cpu cores", f"{cores} ({platform.machine()})")
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Check("gpu", first_line(error), "bad", "Mend torch first: it does not import.")
        return
    if not torch.cuda.is_available():
        yield Check("gpu", "none: models run on the CPU", "note", "Fine for small zoos and images.")
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        yield Check(f"gpu {index}", f"{facts.name}, {facts.total_memory / 1e9:.0f} GB")


def _memory() -> Check:
    import psutil

    facts = psutil.virtual_memory()
    found = f"{facts.available / 1e9:.1f} GB free of {facts.total / 1e9:.1f} GB"
    if facts.available < _FREE_MEMORY:
        return Check("memory", found, "bad", "Close other programs: a run wants 2 GB and more.")
    return Check("memory", found)


def _disk(directory: str) -> Check:
    facts = shutil.disk_usage(directory)
    found = f"{facts.free / 1e9:.1f} GB free"
    if facts.free < _FREE_DISK:
        cure = "Free some space, or give a run directory elsewhere with --dir."
        return Check("disk", found, "bad", cure)
    return Check("disk", found)


def _ray(address: str | None) -> Iterator[Check]:
    from zoo_search import engine

    try:
        has = engine.connect(address)
    except (UserError, ImportError, OSError, RuntimeError, ValueError) as error:
        cure = "Mend what it says; a local Ray needs no address: leave RAY_ADDRESS unset."
        yield Check("ray cluster", first_line(error), "bad", cure)
        return
    where = "local" if has.address == "local" else f"joined at {has.address}"
    yield Check("ray cluster", f"{where}: {has.nodes} nodes, {has.cpus} CPUs, {has.gpus} GPUs")
    ours = _versions()
    for node, theirs in _node_versions().items():
        differing = [name for name in _PACKAGES if theirs[name] != ours[name]]
        if differing:
            found = ", ".join(f"{name} {theirs[name]} (here {ours[name]})" for name in differing)
            yield Check(f"node {node}", found, "bad", "Install constraints.txt on every node.")
        else:
            yield Check(f"node {node}", "same versions as here")


def _node_versions() -> dict[str, dict[str, str | None]]:
    """Ask every live node for its versions."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from zoo_search import engine

    nodes: list[dict[str, Any]] = [n for n in ray.nodes() if n["Alive"]]  # type: ignore[no-untyped-call]
    ask = ray.remote(num_cpus=0)(_versions)
    refs = [
        ask.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)
        ).remote()
        for n in nodes
    ]
    answers = engine.gather(refs, timeout=60)
    return {
        f"{n['NodeManagerAddress']} ({n['NodeID'][:6]})": a
        for n, a in zip(nodes, answers, strict=True)
    }
