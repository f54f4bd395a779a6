"""An experiment of Ray Tune whose trials are answered by the hosts of the run.

A study says what to try next and hears what came of it; Ray Tune keeps as many trials under way as
there are hosts. Imports Ray Tune at the top, so only what runs an experiment imports this module.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from zoo_search.cluster.hosts import Hosts, Role, Worker
from zoo_search.cluster.trial import ANSWER, FAULT, METRIC, HostedTrial

T = TypeVar("T", bound=Hashable)
_DEATHS = 3  # of hosts over one thing to try


class Study(Protocol[T]):
    """What an experiment is about."""

    def ask(self) -> T | None:
        """Return what to try next; None: nothing, unless what is under way brings more."""

    def arguments(self, asked: T) -> Sequence[object]:
        """Return what the role of the hosts is called with for it."""

    def tell(self, asked: T, answer: str | None) -> None:
        """Hear what a host answered; None: hosts died over it, three times."""


def run_experiment(
    study: Study[T],
    role: Role,
    hosts: Hosts,
    workers: int,
    *,
    name: str,
    gpu: bool,
    on_look: Callable[[], None],
) -> None:
    """Try all that a study asks for; what it raises ends the experiment.

    Args:
        study: Says what, and is told.
        role: What the hosts are meanwhile; it answers with a score and a text.
        hosts: The processes.
        workers: How many of them work here.
        name: Of the experiment.
        gpu: Whether each host needs a GPU.
        on_look: Called several times a second.
    """
    for variable, value in (
        ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1"),
        ("RAY_AIR_NEW_OUTPUT", "0"),
        # Else Ctrl-C ends the experiment as if it were over, and the step counts as made.
        ("TUNE_DISABLE_SIGINT_HANDLER", "1"),
    ):
        os.environ.setdefault(variable, value)
    # The hosts take the role, with all its imports, while Ray Tune starts its own processes.
    searcher = _HostedSearcher(study, hosts, workers, gpu, role)
    trainable = tune.with_parameters(HostedTrial, role=role)
    with searcher, tempfile.TemporaryDirectory(prefix="zoo-search-tune-") as folder:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 0.001}),  # hardly any: it waits for its host
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                max_concurrent_trials=workers,
                reuse_actors=True,
                metric=METRIC,
                mode="max",
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=folder,
                verbose=0,
                callbacks=[_Look(searcher, on_look)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()
        if searcher.fault is not None:  # nothing was under way any more that could be looked at
            raise searcher.fault


class _Look(tune.Callback):
    """Looks at what happens meanwhile, and ends the experiment with what a study or host raised."""

    def __init__(self, searcher: _HostedSearcher[Any], look: Callable[[], None]) -> None:
        self._searcher, self._look = searcher, look

    def __getstate__(self) -> dict[str, object]:
        """Ray Tune pickles its settings: what looks stays here."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: object) -> None:
        """Look, several times a second."""
        if self._searcher.fault is not None:
            raise self._searcher.fault
        self._look()


class _HostedSearcher(Searcher, Generic[T]):
    """Hands what a study asks for to Ray Tune, each with a host that is free, and answers back.

    What a host died over goes to another one, up to three times. A context: the hosts have the role
    inside of it.

    Attributes:
        fault: What ends the experiment. Raised in here, Ray Tune would print it and go on.
    """

    def __init__(self, study: Study[T], hosts: Hosts, workers: int, gpu: bool, role: Role) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._study, self._hosts, self._role = study, hosts, role
        self._team = hosts.take(workers, gpu=gpu)
        self._free = list(self._team)
        self._running: dict[str, tuple[T, Worker]] = {}
        self._again: list[T] = []
        self._deaths: Counter[T] = Counter()
        self.fault: Exception | None = None
        for worker in self._team:
            worker.actor.become.remote(role)

    def __enter__(self) -> _HostedSearcher[T]:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._team:
            worker.actor.forget.remote(self._role)

    def __deepcopy__(self, memo: object) -> _HostedSearcher[T]:
        """There is one study, whoever asks it."""
        return self

    def __getstate__(self) -> dict[str, object]:
        """Ray Tune pickles its settings: the study, which keeps its own records, stays here."""
        return {"_metric": self._metric, "_mode": self._mode}

    def suggest(self, trial_id: str) -> Any:
        """Return the next call and a host as a configuration; None as long as more may come."""
        asked = None
        try:
            if self.fault is None:
                asked = self._again.pop() if self._again else self._study.ask()
        except Exception as error:  # whatever it is: it ends the experiment
            self.fault = error
        if asked is None:
            return None if self._running else Searcher.FINISHED
        # Ray Tune has no more trials at once than there are hosts.
        worker = self._free.pop()
        self._running[trial_id] = asked, worker
        return {"arguments": list(self._study.arguments(asked)), "host": worker.actor}

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study, once for each thing that it asked for."""
        if trial_id not in self._running:
            return
        asked, worker = self._running.pop(trial_id)
        answer = result.get(ANSWER) if result else None
        fault = result.get(FAULT) if result else None
        lost = answer is None and fault is None and bool(result or error)
        if lost:
            at = self._team.index(worker)
            worker = self._team[at] = self._hosts.replace(worker)
            worker.actor.become.remote(self._role)
            self._deaths[asked] += 1
            if self._deaths[asked] < _DEATHS:
                self._again.append(asked)
        self._free.append(worker)
        # Else it is asked for again, or whoever goes on does it.
        if answer is not None or (lost and self._deaths[asked] == _DEATHS):
            try:
                self._study.tell(asked, answer)
            except Exception as raised:  # likewise
                fault = raised
        self.fault = self.fault or fault

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study keeps its own records."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the study keeps its own records."""
