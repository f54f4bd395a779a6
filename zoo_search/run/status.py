"""Where a run stands, read from its directory alone: nothing is computed, and nothing written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from zoo_search.core.errors import UserError
from zoo_search.core.store import MANIFEST, RunStore, StepRecord
from zoo_search.core.tables import duration
from zoo_search.core.version import MARK, check_format
from zoo_search.run.best import Best, best_so_far, kept_so_far
from zoo_search.run.heartbeat import PROGRESS
from zoo_search.run.owner import SILENT, is_here, lives, owner_of
from zoo_search.run.steps import STEPS

Stage = Literal["done", "stale", "older", "damaged", "at work", "to do"]
"""Of a step. ``done``: made, and what it wrote is there; ``damaged``: not all of that is;
``older``: made before a step that it reads was made again, which may have given the same;
``stale``: it will be made anew, which only :func:`zoo_search.run.pipeline.to_make` can say."""
State = Literal["running", "finished", "stopped", "gone", "unknown"]
"""Of a run: a process is at work; all steps are made; it stopped, or there never was one; it ended
without a word; or it works, if it does, on a machine that has not been heard of for long."""


@dataclass(frozen=True)
class StepStatus:
    """Where a step stands."""

    name: str
    stage: Stage
    finished: str | None = None
    """When it was made, in UTC; None: never."""
    seconds: float | None = None
    """That it took."""
    reason: str = ""
    """Why it is not done, where there is more to say."""


@dataclass(frozen=True)
class Worker:
    """The process that works in a run directory, or did."""

    host: str
    process: int
    since: str
    """In UTC."""
    alive: bool | None
    """None: it is on another machine, and nothing was heard of it lately."""
    heard: float | None
    """Seconds since its last sign of life; None: it gives none."""


@dataclass(frozen=True)
class Doing:
    """What a process did when it last said so."""

    step: str
    """Empty: what comes before the first step."""
    seconds: float
    """Since that step began."""
    what: str
    """In words."""
    share: float | None
    """Of what is counted there, in [0, 1]."""
    ray_job: str | None
    """What its Ray calls it."""


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands."""

    directory: str
    state: State
    steps: tuple[StepStatus, ...]
    worker: Worker | None
    doing: Doing | None
    ended: str | None
    """Why the last process stopped, where it said so."""
    best: Best | None
    kept: tuple[str, ...]
    """What lies there of the step that is not done, in words: the same command goes on from it."""

    def words(self) -> list[str]:
        """Return all but the table of steps, a line each."""
        said = [f"{self.directory}: {_STATES[self.state]}"]
        if self.worker is not None:
            said.append(_of_worker(self.worker))
        if self.doing is not None:
            where = self.doing.step or "before the first step"
            said.append(f"{where}, for {duration(self.doing.seconds)}: {self.doing.what or '–'}")
        if self.ended:
            said.append(f"the last process ended: {self.ended}")
        if self.kept:
            said.append(f"kept: {', '.join(self.kept)}")
        if self.best is not None:
            said.append(f"best so far: {self.best.words}")
        if self.state in ("stopped", "gone"):
            said.append("the same command goes on from here")
        return said


_STATES: dict[State, str] = {
    "running": "a process is at work",
    "finished": "all steps are made",
    "stopped": "no process is at work",
    "gone": "no process is at work: the last one ended without a word",
    "unknown": "nothing was heard lately of the process that is said to be at work",
}


def status_of(store: RunStore) -> RunStatus:
    """Read where a run stands.

    Raises:
        UserError: If there is no run, or it is of a later format.
        Exception: What a storage raises that does not answer.
    """
    if not (store.exists(MARK) or store.exists(MANIFEST)):
        raise UserError(
            f"There is no run at {store.url}: it has neither a {MARK} nor a {MANIFEST}. Give the "
            "directory of a run, such as runs/digits, or the run file of one; for a run on a "
            "cluster the directory or URI that its job was given (zoo-search jobs tells it)."
        )
    check_format(store)
    owner, said = owner_of(store), _said(store)
    same = owner is not None and all(said.get(k) == owner.get(k) for k in ("host", "process"))
    worker = _worker(owner, said if same else {})
    busy = worker is not None and worker.alive is not False
    steps = _steps(store, str(said.get("step", "")) if same and busy else None)
    if worker is not None:
        state: State = "running" if worker.alive else "gone" if worker.alive is False else "unknown"
    else:
        state = "finished" if all(step.stage == "done" for step in steps) else "stopped"
    ended = None if worker is not None else said.get("ended")
    return RunStatus(
        store.url,
        state,
        steps,
        worker,
        _doing(said) if said and (same or ended) else None,
        None if ended is None else str(ended),
        best_so_far(store),
        kept_so_far(store, {step.name for step in steps if step.stage != "done"}),
    )


def with_stale(found: RunStatus, to_make: Sequence[str]) -> RunStatus:
    """Return a status in which the steps that would be made now are known for certain.

    ``to_make`` is what :func:`zoo_search.run.pipeline.to_make` gives: the first of them is stale,
    and what follows it depends on what that gives.
    """
    steps = []
    for step in found.steps:
        if step.stage in ("done", "older", "damaged"):
            here = step.name in to_make
            stage: Stage = "stale" if here and step.name == to_make[0] else "done"
            reason = ""
            if stage == "stale":
                reason = step.reason or "what it is made from has changed: it is made anew"
            elif here:
                stage, reason = "older", f"waits for {to_make[0]}: another result makes it stale"
            step = replace(step, stage=stage, reason=reason)
        steps.append(step)
    state = "stopped" if found.state == "finished" and to_make else found.state
    return replace(found, steps=tuple(steps), state=state)


def _said(store: RunStore) -> Mapping[str, Any]:
    try:
        said = store.read_json(PROGRESS) if store.exists(PROGRESS) else {}
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _worker(owner: Mapping[str, Any] | None, said: Mapping[str, Any]) -> Worker | None:
    """Return the process that has the lock; ``said`` is what itself tells of its progress."""
    if owner is None:
        return None
    beats = [float(each["beat"]) for each in (owner, said) if _is_number(each.get("beat"))]
    heard = max(0.0, time.time() - max(beats)) if beats else None
    if is_here(owner):
        alive: bool | None = lives(owner)
    else:  # its clock may be another one: what is said long ago is no proof of a death
        alive = True if heard is not None and heard < SILENT else None
    number: Any = owner.get("process")
    return Worker(
        str(owner.get("host", "?")),
        int(number) if _is_number(number) else 0,
        str(owner.get("since", "?")),
        alive,
        heard,
    )


def _of_worker(worker: Worker) -> str:
    alive = {True: "alive", False: "gone", None: "no sign of life"}[worker.alive]
    heard = "" if worker.heard is None else f", last heard of {duration(worker.heard)} ago"
    return f"process {worker.process} on {worker.host}, since {worker.since}: {alive}{heard}"


def _doing(said: Mapping[str, Any]) -> Doing:
    since, beat = (float(said[k]) if _is_number(said.get(k)) else 0.0 for k in _TIMES)
    share: Any = said.get("share")
    job = said.get("ray_job")
    return Doing(
        str(said.get("step", "")),
        max(0.0, beat - since),
        " ".join(str(said[key]) for key in ("doing", "text") if said.get(key)),
        float(share) if _is_number(share) else None,
        None if job is None else str(job),
    )


_TIMES = ("step_since", "beat")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _steps(store: RunStore, at_work: str | None) -> tuple[StepStatus, ...]:
    records, found = store.manifest(), []
    latest, later = "", ""  # when the latest step before was made, and which it is
    for name in STEPS:
        record = records.get(name)
        found.append(_step(store, name, record, later if record else "", latest))
        if name == at_work:
            done = record and (record["finished"], record["seconds"])
            found[-1] = StepStatus(name, "at work", *(done or ()))
        if record is not None and record["finished"] > latest:
            latest, later = record["finished"], name
    return tuple(found)


def _step(
    store: RunStore, name: str, record: StepRecord | None, later: str, latest: str
) -> StepStatus:
    if record is None:
        return StepStatus(name, "to do")
    when = record["finished"], record["seconds"]
    missing = [artifact for artifact in record["artifacts"] if not store.exists(artifact)]
    if missing:
        return StepStatus(name, "damaged", *when, f"{missing[0]} is missing: it is made anew")
    if record["finished"] < latest:
        return StepStatus(name, "older", *when, f"than {later}; --check says whether that counts")
    return StepStatus(name, "done", *when)
