"""What this machine or cluster has, what is wrong with it, and what to do."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import typer

from zoo_search.cli.options import Address, AsJson
from zoo_search.cli.tables import show
from zoo_search.core.errors import UserError, first_line
from zoo_search.core.progress import working
from zoo_search.core.tables import Table, text
from zoo_search.run.draft.hardware import look_up

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


def doctor(address: Address = None, as_json: AsJson = False) -> None:
    """What this machine or cluster has, what is wrong, and what to do."""
    with working("looking around"):
        checks = examine(address)
    show(checks_table(checks), as_json)
    raise typer.Exit(2 if any(check.state == "bad" for check in checks) else 0)


def examine(address: str | None) -> list[Check]:
    """Look at versions, torch with torchvision, devices, memory, disk, and Ray on every node."""
    return [
        _python(), *_packages(), _torch_pair(), *_devices(), _memory(), _disk("."), _temporary(),
        *_ray(address),
    ]  # fmt: skip


def checks_table(checks: Sequence[Check]) -> Table:
    """Return one row a check."""
    columns = text("name", ""), text("found"), text("state"), text("cure", "what to do")
    return Table("zoo-search doctor", columns, [asdict(check) for check in checks])


def _check(name: str, found: str, good: bool, cure: str) -> Check:
    return Check(name, found) if good else Check(name, found, "bad", cure)


def _python() -> Check:
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return _check(
        "python", platform.python_version(), fits, "zoo-search needs Python 3.11 to 3.13."
    )


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
        cure = f"pip install -c constraints.txt {name}"
        yield _check(name, version or "missing", version is not None, cure)


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
    found = look_up()
    yield Check("cpu cores", f"{found.cores} ({platform.machine()})")
    if found.problem:
        cure = "Mend torch first: it does not import."
        yield Check("gpu", first_line(found.problem), "bad", cure)
    elif not found.gpus:
        yield Check("gpu", "none: models run on the CPU", "note", "Fine for small zoos and images.")
    for index, (name, memory) in enumerate(found.gpus):
        yield Check(f"gpu {index}", f"{name}, {memory / 1e9:.0f} GB")


def _memory() -> Check:
    has = look_up()
    found = f"{has.free / 1e9:.1f} GB free of {has.memory / 1e9:.1f} GB"
    cure = "Close other programs: a run wants 2 GB and more."
    return _check("memory", found, has.free >= _FREE_MEMORY, cure)


def _disk(directory: str) -> Check:
    free = shutil.disk_usage(directory).free
    cure = "Free some space, or give a run directory elsewhere with --dir."
    return _check("disk", f"{free / 1e9:.1f} GB free", free >= _FREE_DISK, cure)


def _temporary() -> Check:
    """Look whether Ray's sockets fit below the folder for temporary files."""
    from zoo_search.cluster import temporary

    folder = temporary.configured()
    if not temporary.is_too_long(folder):
        return Check("temporary files", f"{folder}: short enough for Ray's sockets")
    found = f"{folder}: {len(os.fsencode(folder))} bytes, Ray's sockets need {temporary.MOST}"
    try:
        short = temporary.short_folder()
    except UserError as error:
        return Check("temporary files", found, "bad", str(error))
    cure = f"Nothing: Ray is started in {short}. RAY_TMPDIR may name another short folder."
    return Check("temporary files", found, "note", cure)


def _ray(address: str | None) -> Iterator[Check]:
    from zoo_search import cluster

    try:
        has = cluster.connect(address)
    except (UserError, ImportError, OSError, RuntimeError, ValueError) as error:
        cure = "Mend what it says; a local Ray needs no address: leave RAY_ADDRESS unset."
        yield Check("ray cluster", first_line(error), "bad", cure)
        return
    where = "local" if has.address == "local" else f"joined at {has.address}"
    yield Check("ray cluster", f"{where}: {has.nodes} nodes, {has.cpus} CPUs, {has.gpus} GPUs")
    ours = _versions()
    for node, theirs in _node_versions().items():
        differing = [f"{n} {theirs[n]} (here {ours[n]})" for n in _PACKAGES if theirs[n] != ours[n]]
        found = ", ".join(differing) or "same versions as here"
        cure = "Install constraints.txt on every node."
        yield _check(f"node {node}", found, not differing, cure)


def _node_versions() -> dict[str, dict[str, str | None]]:
    """Ask every live node for its versions."""
    from zoo_search.cluster.nodes import ask_nodes

    return ask_nodes(_versions)
