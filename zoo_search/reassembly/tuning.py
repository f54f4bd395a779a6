"""Ray Tune's part of the search: an experiment whose trials are scored by the hosts of the run.

Imports Ray Tune at the top, so only what runs a search imports this module.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from zoo_search import cluster
from zoo_search.cluster.hosts import Hosts, Role, Worker
from zoo_search.reassembly.candidates import Outcome
from zoo_search.reassembly.scoring import HostedScorer, ScoringTask
from zoo_search.reassembly.study import Asked, SearchStudy
from zoo_search.reassembly.trial import METRIC, ScoringTrial

_DEATHS = 3  # of hosts over one recipe


def run_trials(
    study: SearchStudy,
    task: ScoringTask,
    hosts: Hosts,
    workers: int,
    use_gpu: bool,
    on_outcome: Callable[[Outcome], None],
) -> None:
    """Score what the study asks for as one Ray Tune experiment.

    ``workers`` of the hosts hold the task; ``on_outcome`` is told what the study was told.

    Raises:
        UserError: If no recipe is scored for long (:class:`zoo_search.cluster.Timeout`).
    """
    limit = cluster.Timeout("the scores of candidates")
    for name, value in (("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1"), ("RAY_AIR_NEW_OUTPUT", "0")):
        os.environ.setdefault(name, value)
    # The hosts take the role, with all its imports, while Ray Tune starts its own processes.
    role = Role.of(HostedScorer, ([ray.put(task)], "timm" in sys.modules))
    team = hosts.take(workers, gpu=use_gpu)
    searcher = _StudySearcher(study, limit, on_outcome, hosts, team, role)
    trainable = tune.with_parameters(ScoringTrial, role=role)
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
                name="search",
                storage_path=folder,
                verbose=0,
                callbacks=[_Limit(limit)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()


class _Limit(tune.Callback):
    """Ends the experiment when nothing has come for long."""

    def __init__(self, limit: cluster.Timeout) -> None:
        self._limit = limit

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: object) -> None:
        """Look at the clock, several times a second."""
        self._limit.check()


class _StudySearcher(Searcher):
    """Hands the study's recipes to Ray Tune, each with a host that is free, and results back.

    A recipe whose host died goes to another one, up to three times. A context: the hosts have the
    role inside of it.
    """

    def __init__(
        self,
        study: SearchStudy,
        limit: cluster.Timeout,
        on_outcome: Callable[[Outcome], None],
        hosts: Hosts,
        team: list[Worker],
        role: Role,
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._study, self._limit, self._on_outcome = study, limit, on_outcome
        self._hosts, self._team, self._free, self._role = hosts, team, list(team), role
        self._running: dict[str, tuple[Asked, Worker]] = {}
        self._again: list[Asked] = []
        self._deaths: Counter[Asked] = Counter()
        self._exhausted = False
        for worker in team:
            worker.actor.become.remote(role)

    def __enter__(self) -> _StudySearcher:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._team:
            worker.actor.forget.remote(self._role)

    def __deepcopy__(self, memo: object) -> _StudySearcher:
        """There is one study, whoever asks it."""
        return self

    def __getstate__(self) -> dict[str, object]:
        """Ray Tune pickles its settings: the study, which keeps its own journal, stays here."""
        return {"_metric": self._metric, "_mode": self._mode}

    def suggest(self, trial_id: str) -> Any:
        """Return the next recipe and a host as a configuration; None as long as one may be lost."""
        asked = self._again.pop() if self._again else None
        if asked is None and not self._exhausted:
            asked = self._study.ask()
            self._exhausted = asked is None
        if asked is None:
            return None if self._running else Searcher.FINISHED
        # Ray Tune has no more trials at once than there are hosts.
        self._running[trial_id] = asked, self._free.pop()
        recipe = json.dumps(asked.recipe.to_dict())
        return {"recipe": recipe, "host": self._running[trial_id][1].actor}

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, str] | None = None, error: bool = False
    ) -> None:
        """Tell the study, once a recipe."""
        if trial_id not in self._running:
            return
        asked, worker = self._running.pop(trial_id)
        outcome = None
        if result and "outcome" in result:
            outcome = Outcome(**json.loads(result["outcome"]))
        elif result or error:
            at = self._team.index(worker)
            worker = self._team[at] = self._hosts.replace(worker)
            worker.actor.become.remote(self._role)
            self._deaths[asked] += 1
            if self._deaths[asked] == _DEATHS:
                outcome = Outcome({}, "the worker that scored it died, three times")
            else:
                self._again.append(asked)
        self._free.append(worker)
        if outcome is not None:  # else it is asked for again, or whoever goes on scores it
            self._study.tell(asked, outcome)
            self._limit.progress()
            self._on_outcome(outcome)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study keeps its own journal."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the study keeps its own journal."""
