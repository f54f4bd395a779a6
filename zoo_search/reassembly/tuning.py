"""Ray Tune's part of the search: long-lived actors that score what the study asks for.

Imports Ray Tune at the top, so only what runs a search imports this module.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from zoo_search import engine
from zoo_search.reassembly.recipe import Recipe
from zoo_search.reassembly.scoring import Outcome, Scorer, Task
from zoo_search.reassembly.study import Asked, SearchStudy

__all__ = ["run_trials"]

_METRIC = "score"


def run_trials(
    study: SearchStudy,
    task: Task,
    workers: int,
    use_gpu: bool,
    on_outcome: Callable[[Asked, Outcome], None],
) -> None:
    """Score what the study asks for as one Ray Tune experiment.

    Args:
        study: What to score next; it is told of every outcome.
        task: How to score; each actor holds it once.
        workers: Actors.
        use_gpu: Whether each actor takes a GPU.
        on_outcome: Told of every recipe that was scored or failed.

    Raises:
        UserError: If no recipe is scored for long (:class:`zoo_search.engine.Patience`).
    """
    patience = engine.Patience("the scores of candidates")

    def told(asked: Asked, outcome: Outcome) -> None:
        patience.progress()
        on_outcome(asked, outcome)

    for name, value in (("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1"), ("RAY_AIR_NEW_OUTPUT", "0")):
        os.environ.setdefault(name, value)
    trainable: Any = tune.with_resources(
        tune.with_parameters(_ScoringActor, task=task), {"cpu": 1, "gpu": 1 if use_gpu else 0}
    )
    with tempfile.TemporaryDirectory(prefix="zoo-search-tune-") as folder:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=_StudySearcher(study, told),
                num_samples=study.expected,
                max_concurrent_trials=workers,
                reuse_actors=True,
                metric=_METRIC,
                mode="max",
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=folder,
                verbose=0,
                callbacks=[_Limit(patience)],
                failure_config=tune.FailureConfig(max_failures=2),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()


class _Limit(tune.Callback):
    """Ends the experiment when nothing has come for long."""

    def __init__(self, patience: engine.Patience) -> None:
        self._patience = patience

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look at the clock, several times a second."""
        self._patience.check()


class _ScoringActor(tune.Trainable):
    """Holds a scorer; each trial is one recipe."""

    def setup(self, config: dict[Any, Any], task: Task | None = None) -> None:
        """Take the blocks and images in, once an actor."""
        import torch

        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        assert task is not None
        self._scorer = Scorer(task, "cuda" if torch.cuda.is_available() else "cpu")
        self._recipe = config["recipe"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on to the next trial with the same blocks."""
        self._recipe = new_config["recipe"]
        return True

    def step(self) -> dict[str, Any]:
        """Score one recipe."""
        outcome = self._scorer(Recipe.from_any(json.loads(self._recipe)))
        return {
            "done": True,
            _METRIC: next(iter(outcome.scores.values()), 0.0),
            "outcome": json.dumps(vars(outcome)),
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: a trial is one step."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing: a trial is one step."""


class _StudySearcher(Searcher):
    """Hands the study's recipes to Ray Tune, and Ray Tune's results to the study."""

    def __init__(self, study: SearchStudy, on_outcome: Callable[[Asked, Outcome], None]) -> None:
        super().__init__(metric=_METRIC, mode="max")
        self._study = study
        self._on_outcome = on_outcome
        self._asked: dict[str, Asked] = {}

    def __deepcopy__(self, memo: Any) -> _StudySearcher:
        """There is one study, whoever asks it."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune pickles its settings: the study, which keeps its own journal, stays here."""
        return {"_metric": self._metric, "_mode": self._mode}

    def suggest(self, trial_id: str) -> Any:
        """Return the next recipe as a configuration."""
        asked = self._study.ask()
        if asked is None:
            return Searcher.FINISHED
        self._asked[trial_id] = asked
        return {"recipe": json.dumps(asked.recipe.to_dict())}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study, once a trial."""
        asked = self._asked.pop(trial_id, None)
        if asked is None:
            return
        if result and "outcome" in result:
            outcome = Outcome(**json.loads(result["outcome"]))
        elif error:
            outcome = Outcome({}, "the worker that scored it died, three times")
        else:
            return  # stopped by the user: whoever goes on scores it
        self._study.tell(asked, outcome)
        self._on_outcome(asked, outcome)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study keeps its own journal."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the study keeps its own journal."""
