"""The memory of every process of a session, for scripts that tests run: a driver with its Ray."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MARKS = {  # the last that fits
    "worker": ["ray::", "default_worker"],
    "host": ["::Host"],
    "training worker": ["RayTrainWorker"],
    "controller": ["TrainController"],
    "Ray Data's account": ["_StatsActor", "_AutoscalingCoordinator"],
    "dashboard agent": ["DashboardAgent", "dashboard/agent"],
    "runtime agent": ["RuntimeEnvAgent", "runtime_env/agent"],
    "dashboard": ["dashboard/dashboard"],
    "monitor": ["autoscaler", "monitor.py"],
    "log monitor": ["log_monitor"],
    "gcs_server": ["gcs_server"],
    "raylet": ["raylet/raylet"],
}


def peaks(found: dict[str, tuple[str, int]]) -> None:
    """Note role and largest memory in bytes of each process of this session, by its number.

    Without the pages shared with the object store: Ray touches those of its one arena in turn.
    """
    pid, own = os.getpid(), os.getsid(0)
    for place in Path("/proc").glob("[0-9]*"):
        try:
            status = (place / "status").read_text()
            title = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            session = int((place / "stat").read_text().rsplit(")", 1)[1].split()[3])
        except (OSError, ValueError, ProcessLookupError):
            continue
        own_pages = sum(map(int, re.findall(r"Rss(?:Anon|File):\s+(\d+) kB", status))) * 1024
        if own_pages and session == own:
            role, before = found.get(place.name, ("other", 0))
            # A worker is idle now and decodes then; once it serves as an actor, it stays that one.
            for word, marks in MARKS.items():
                if any(mark in title for mark in marks):
                    role = word
            if place.name == str(pid):
                role = "driver"
            found[place.name] = (role, max(before, own_pages))


@contextmanager
def watched() -> Iterator[tuple[dict[str, int], list[int]]]:
    """Give the largest memory by role, and the bytes in the object store; filled at the end."""
    import ray

    found: dict[str, tuple[str, int]] = {}
    roles, store, done = dict[str, int](), [0], threading.Event()

    def watch() -> None:
        whole = ray.cluster_resources()["object_store_memory"]  # type: ignore[no-untyped-call]
        while not done.wait(0.1):
            peaks(found)
            free = ray.available_resources()  # type: ignore[no-untyped-call]
            store.append(int(whole - free.get("object_store_memory", whole)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield roles, store
    finally:
        done.set()
        thread.join()
        peaks(found)
        for role, peak in found.values():
            roles[role] = max(roles.get(role, 0), peak)


def few_and_many(script: str, folder: Path, most: float, needed: set[str]) -> list[dict[str, Any]]:
    """Run a script on 400 images and on 4,000; check that the memory of every process is level.

    A process passes that grows by less than 15 %, ``most`` bytes at the most, or, if it is small,
    by 10 MB of records. A peak differs by a tenth from run to run, and what keeps images keeps them
    each time: where a peak is over that, both are measured again, and the lower ones count.
    The script gets a folder and the number of images, and prints ``roles`` as JSON at its end.
    """
    lowest: dict[int, dict[str, int]] = {400: {}, 4000: {}}
    for attempt in range(3):
        told = {
            images: _run_script(script, folder / f"{images}-{attempt}", images) for images in lowest
        }
        for images, roles in lowest.items():
            for role, peak in told[images]["roles"].items():
                roles[role] = min(roles.get(role, peak), peak)
        few, many = lowest.values()
        assert needed <= few.keys() & many.keys()
        print(f"\n{'peak own MB':18s} {'few':>12s} {'ten times':>13s}")
        for role, peak in few.items():
            print(f"{role:18s} {peak / 1e6:12.0f} {many.get(role, 0) / 1e6:13.0f}")
        grown = [
            role
            for role, peak in few.items()
            if many.get(role, 0) >= peak + min(max(0.15 * peak, 10e6), most)
        ]
        if not grown:
            break
    else:
        raise AssertionError(f"more memory for more images: {', '.join(grown)}")
    stores = [part["store"] / 1e6 for part in told.values()]
    print(f"{'object store':18s} {stores[0]:12.0f} {stores[1]:13.0f}")
    return list(told.values())


def _run_script(script: str, folder: Path, images: int) -> dict[str, Any]:
    """Run a script in a session of its own; return what its last line says, as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "script.py"
    file.write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(file), str(folder), str(images)],
        capture_output=True, text=True, timeout=900, start_new_session=True,
        env=os.environ | {"HOME": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
