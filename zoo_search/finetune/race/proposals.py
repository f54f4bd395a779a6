"""Which learning rate and weight decay to try next: Optuna's tree-structured Parzen estimator.

Imports Optuna at the top, so only what runs a race with several tries imports this module.
"""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import create_trial

from zoo_search.finetune.tasks import Values

_RATE, _DECAY = "rate", "decay"
_LEAST, _MOST = 0.005, 0.5  # weight decay
_SPACE: dict[str, BaseDistribution] = {
    _RATE: FloatDistribution(0.25, 4.0, log=True),
    _DECAY: FloatDistribution(_LEAST, _MOST, log=True),
}
_RANDOM = 8
"""Tries before anything is learned from them: two values, and noise."""


def propose(tried: Sequence[tuple[Values, float]], count: int, seed: int) -> list[Values]:
    """Return so many values to try at once, by those that were tried and how much each gained.

    A gain is how much higher the metric that chooses is than with the schedule's own values.
    Proposals follow from the arguments alone. All networks of a race teach one model: what is
    learned is how far from the schedule's values the best ones lie, which few trainings of one
    network could not say.
    """
    own = sum(values.rate == 1.0 for values, _ in tried)  # teach nothing of other values
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=seed + len(tried), n_startup_trials=_RANDOM + own,
        multivariate=True, constant_liar=True,
    )  # fmt: skip
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for values, gain in tried:
        params = {_RATE: values.rate, _DECAY: min(max(values.decay, _LEAST), _MOST)}
        study.add_trial(create_trial(params=params, distributions=dict(_SPACE), value=gain))
    found = []
    for _ in range(count):
        params = study.ask(dict(_SPACE)).params
        found.append(Values(float(f"{params[_RATE]:.3g}"), float(f"{params[_DECAY]:.3g}")))
    return found
