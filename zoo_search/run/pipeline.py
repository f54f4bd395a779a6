"""A whole run: the steps in order, each made only if what it is made from has changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from zoo_search.config import JobSource
from zoo_search.config.section import as_spelled
from zoo_search.core.errors import require
from zoo_search.core.identity import fingerprint
from zoo_search.core.progress import working
from zoo_search.run.directory import alone, claim, sweep, writable
from zoo_search.run.heartbeat import telling
from zoo_search.run.images import check_images, tell_of_images
from zoo_search.run.reach import check_reach
from zoo_search.run.run import Run, check_names
from zoo_search.run.steps import STEPS


def run(
    job: JobSource,
    *,
    until: str = "report",
    directory: str | None = None,
    address: str | None = None,
    seed: int | None = None,
    hours: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Run:
    """Run the steps of a job up to ``until``, resuming from what the run directory holds.

    Args:
        job: Path of a run file, a mapping of the same form, or a validated configuration.
        until: Last step to make.
        directory: Run directory, a path or an fsspec URI; default ``runs/<name>``.
        address: Ray cluster to join; default ``RAY_ADDRESS``, else this machine.
        seed: Overrules the seed of the job.
        hours: Overrules ``search.hours``.
        say: Called with one line at the start and the end of each step.

    Raises:
        UserError: What a user can mend, in any step; and if the directory is none of a run's, or
            another process works in it.
    """
    require(until, STEPS, f"There is no step '{until}'.")
    opened = Run.open(job, directory, address, seed, hours)
    store, steps = opened.store, list(STEPS)[: list(STEPS).index(until) + 1]
    with contextlib.ExitStack() as held:
        held.enter_context(writable(store))
        claim(store)  # before anything is written there
        held.enter_context(alone(store))
        sweep(store)
        store.manifest()  # of a later format, or damaged: the directory stays as it is
        told = held.enter_context(telling(store))
        _keep_job(opened)
        start = time.monotonic()  # what the preparation takes counts as the first step's
        try:
            with working("images: listing"):
                check_names(opened.job)
                check_images(opened, steps)
            check_reach(opened, steps)
            if "reassemble" in steps:
                tell_of_images(opened)
            with working("zoo: loading"):
                opened.prepare()
            for name in steps:
                told.begin(name)
                _ensure(opened, name, start, say)
                start = time.monotonic()
        finally:
            opened.release_hosts()
    return opened


def to_make(run: Run) -> list[str]:
    """Return the steps that would be made now, in order, without making any.

    What follows the first of them may turn out to be up to date when that is made. The zoo is
    loaded, the images are listed and what was written is read, as at the start of a run.

    Raises:
        UserError: As :func:`run`, before its first step.
    """
    current = 0
    for name in STEPS:
        if not _is_current(run, name, _made_from(run, name)):
            break
        current += 1
    return list(STEPS)[current:]


def _is_current(run: Run, name: str, made_from: str) -> bool:
    return run.store.is_current(name, made_from) or _was_current(run, name)


def _keep_job(run: Run) -> None:
    """Write the configuration, if it is not there; a finished run may lie where nobody writes."""
    text = run.job.to_yaml(secrets=False)
    if not run.store.exists("job.yaml") or run.store.read_bytes("job.yaml") != text.encode():
        run.store.write_text("job.yaml", text)


def _ensure(run: Run, name: str, start: float, say: Callable[[str], None]) -> None:
    """Make a step that was begun at ``start``, or say that it is up to date."""
    step = STEPS[name]
    made_from = _made_from(run, name)
    if _is_current(run, name, made_from):
        say(f"{name}: up to date, skipped")
        return
    say(f"{name} …")
    with working(name):
        artifacts = step.make(run)
    seconds = time.monotonic() - start
    run.store.record(name, made_from, artifacts, seconds=seconds)
    if step.forget is not None:
        step.forget(run)
    shown = dict.fromkeys(each.rpartition("/")[0] or each for each in artifacts)
    say(f"{name}: made in {seconds:.1f} s ({', '.join(shown)})")


def _made_from(run: Run, name: str) -> str:
    step = STEPS[name]
    return fingerprint({"step": name, "version": step.version, "from": step.inputs(run)})


def _was_current(run: Run, name: str) -> bool:
    """Say whether a step is up to date that a version made whose identities held spelled paths."""
    with as_spelled():
        return run.store.is_current(name, _made_from(run, name))
