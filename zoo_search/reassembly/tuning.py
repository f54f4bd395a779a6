"""The search as an experiment of Ray Tune: recipes go to the hosts of the run, scores come back.

Imports Ray Tune, so only what runs a search imports this module.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence

import ray

from zoo_search import cluster
from zoo_search.cluster.experiment import run_experiment
from zoo_search.cluster.hosts import Hosts, Role
from zoo_search.reassembly.candidates import Outcome
from zoo_search.reassembly.scoring import HostedScorer, ScoringTask
from zoo_search.reassembly.study import Asked, SearchStudy


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
    scores = _Scores(study, on_outcome)
    role = Role.of(HostedScorer, ([ray.put(task)], "timm" in sys.modules))
    run_experiment(
        scores, role, hosts, workers, name="search", gpu=use_gpu, on_look=scores.limit.check
    )


class _Scores:
    """A study of recipes, whose scores come as text."""

    def __init__(self, study: SearchStudy, on_outcome: Callable[[Outcome], None]) -> None:
        self._study, self._on_outcome = study, on_outcome
        self._exhausted = False
        self.limit = cluster.Timeout("the scores of candidates")

    def ask(self) -> Asked | None:
        asked = None if self._exhausted else self._study.ask()
        self._exhausted = asked is None
        return asked

    def arguments(self, asked: Asked) -> Sequence[object]:
        return [json.dumps(asked.recipe.to_dict()), asked.proxies]

    def tell(self, asked: Asked, answer: str | None) -> None:
        if answer is None:
            outcome = Outcome({}, "the worker that scored it died, three times")
        else:
            outcome = Outcome(**json.loads(answer))
        self._study.tell(asked, outcome)
        self.limit.progress()
        self._on_outcome(outcome)
