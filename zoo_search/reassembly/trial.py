"""A trial of Ray Tune: it hands a recipe to a host of the run and gives back what that answers.

Ray Tune starts processes of its own for its trials. Imports no torch, so that they are up at once:
the blocks and images are held, and the scores taken, by the hosts, which live as long as the run.
"""

from __future__ import annotations

from typing import Any

import ray
from ray import tune

from zoo_search.cluster.hosts import Role

METRIC = "score"


class ScoringTrial(tune.Trainable):
    """One recipe; ``config`` holds it as JSON (``recipe``), and the host that scores it (``host``).

    The result holds the outcome as JSON, but if the host has died.
    """

    def setup(self, config: dict[str, Any], role: Role | None = None) -> None:
        """Take the first recipe."""
        assert role is not None
        self._role, self._config = role, config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on to the next recipe in the same process."""
        self._config = new_config
        return True

    def step(self) -> dict[str, object]:
        """Have the recipe scored."""
        try:
            answer = self._config["host"].call.remote(self._role, self._config["recipe"])
            score, outcome = ray.get(answer)
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError):
            return {"done": True, METRIC: 0.0}
        return {"done": True, METRIC: score, "outcome": outcome}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: a trial is one step."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Load nothing: a trial is one step."""
