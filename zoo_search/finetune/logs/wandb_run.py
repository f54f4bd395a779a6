"""Curves as runs of Weights & Biases: one a network."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_search.finetune.logs.events import LOGS

if TYPE_CHECKING:
    from zoo_search.core.store import RunStore

_DEFAULTS = {
    "WANDB_PROJECT": "zoo-search",
    "WANDB_SILENT": "true",
    "WANDB_CONSOLE": "off",  # the output belongs to Ray
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_INIT_TIMEOUT": "60",  # seconds; by default 90
    "WANDB_FINISH_TIMEOUT": "60",  # seconds; by default it waits for the network to come back
}


class WandbRun:
    """A run whose id is the hash of the task, so that a training that goes on goes on in it.

    All variables ``WANDB_*`` are heeded (``WANDB_MODE``, ``WANDB_DIR``, ``WANDB_PROJECT``). Files
    go to ``logs/wandb`` of the run directory: at once if it is local, at the end and only in
    offline mode if it is remote.

    Raises:
        Exception: What wandb raises if there is no key or no answer; so do the methods.
    """

    def __init__(
        self, store: RunStore, group: str, key: str, network: str, facts: Mapping[str, object]
    ) -> None:
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        import wandb

        self._store = store
        self._aside, place = None, os.environ.get("WANDB_DIR")
        if place is None and store.is_local:
            place = store.path(LOGS)
        elif place is None:
            self._aside = tempfile.TemporaryDirectory()
            place = self._aside.name
        Path(place).mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            id=key, resume="allow", name=network, group=group, config=dict(facts), dir=place
        )
        self._there = self._run.step  # steps below it are logged; wandb takes none of them again

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of an epoch."""
        if step >= self._there:
            self._run.log(dict(values), step=step, commit=True)

    def result(self, step: int, values: Mapping[str, float]) -> None:
        """Put values into the summary of the run."""
        self._run.summary.update(dict(values))

    def close(self, failed: bool) -> None:
        """End the run, and all others of wandb in this process.

        Waits a minute at most (``WANDB_FINISH_TIMEOUT``) for what is under way.
        """
        import wandb

        folder, offline = Path(self._run.dir).parent, self._run.offline
        self._run.finish(exit_code=int(failed))
        # A finished run may still be on its way to the disk, and Ray ends its workers hard.
        wandb.teardown(int(failed))
        if self._aside:
            if offline:
                with self._store.local_folder(f"{LOGS}/wandb/{folder.name}") as kept:
                    shutil.copytree(folder, kept, dirs_exist_ok=True, ignore_dangling_symlinks=True)
            self._aside.cleanup()
