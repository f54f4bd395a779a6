"""A trial of Ray Tune: it hands a call to a host of the run and gives back what that answers.

Ray Tune starts processes of its own for its trials. Imports no torch, so that they are up at once:
what the work needs is held, and the work done, by the hosts, which live as long as the run.
"""

from __future__ import annotations

from typing import Any

import ray
from ray import tune

from zoo_search.cluster.hosts import Role
from zoo_search.core.files import is_full

METRIC = "score"
ANSWER = "answer"
FAULT = "fault"


class HostedTrial(tune.Trainable):
    """One call; ``config`` holds the host (``host``) and what it is called with (``arguments``).

    The host answers with a score and a text; the result holds both, but if the host has died, or
    has no room on the disk, which another one would not have either: then it holds that error.
    """

    def setup(self, config: dict[str, Any], role: Role | None = None) -> None:
        """Take the first call."""
        assert role is not None
        self._role, self._config = role, config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on to the next call in the same process."""
        self._config = new_config
        return True

    def step(self) -> dict[str, object]:
        """Have the host answer."""
        try:
            answer = self._config["host"].call.remote(self._role, *self._config["arguments"])
            score, text = ray.get(answer)
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError):
            return {"done": True, METRIC: 0.0}
        except ray.exceptions.RayTaskError as error:
            if is_full(error.cause):
                return {"done": True, METRIC: 0.0, FAULT: error.cause}
            raise
        return {"done": True, METRIC: score, ANSWER: text}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: a trial is one step."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Load nothing: a trial is one step."""
