"""Logs of small trainings, and what TensorBoard reads of them."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo_search.core.store import RunStore
from zoo_search.finetune.logs import EpochLog

LONG = "x" * 9000
FACTS = {"schedule": "few-shot", "lr": 0.001, "long": LONG}
Points = dict[str, list[tuple[int, float]]]


def opened(store: RunStore, *kinds: str, key: str = "k1", network: str = "net 1") -> EpochLog:
    return EpochLog(store, kinds, "pets", key, network, FACTS)


def losses(log: EpochLog, protocol: str, start: int, stop: int, base: float) -> None:
    for number in range(start, stop + 1):
        log.epoch(protocol, number, {"loss": base + number})


def curves(folder: Path) -> Points:
    """Read event files as TensorBoard does."""
    found = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(point.step, point.value) for point in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def fetched(store: RunStore, place: Path) -> Points:
    """Return the curves of "net 1" in a remote run directory."""
    place.mkdir()
    for name in store.list("logs/net+1"):
        (place / name).write_bytes(store.read_bytes(f"logs/net+1/{name}"))
    return curves(place)
