"""How well would an untrained recipe do? A guess from what was measured of others on their way.

A Gaussian process over recipes and over what is measured of them: the accuracy, and the loss, on
the validation images after some epochs. Each of these measures (say, the accuracy after 4 epochs)
has a mean of its own, of which nothing is known before, and measures are correlated, the less the
farther apart: so trainings that were broken off tell of the end, and since those that went on were
chosen by what is known here, that does no harm. By how much a recipe differs from the mean is a sum
of three parts, each of variance ``share`` of all:

- what features tell (:mod:`.features`): a Bayesian linear regression on each kind of them;
- what is the recipe's own, of which no other tells;
- and noise, of each measure apart.

How much each counts is not chosen but averaged over a grid, by the marginal likelihood, since few
networks are known when a guess is wanted. All is in closed form, in float64. Equations are those of
Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array

Array = NDArray[np.float64]
Places = NDArray[np.int64]

_STEPS = 3
"""Shares of kinds of features in what they tell are multiples of one over it."""
_OWNS = (0.1, 0.3)
_NOISES = (0.03, 0.1, 0.3)
_FADES = (0.8, 0.95)
_TIES = (0.7, 0.95)
_LEAST_WEIGHT = 1e-3
_LEAST_LOSS = 1e-4


@dataclass(frozen=True)
class Measured:
    """What is known of a recipe after some epochs.

    Attributes:
        recipe: Its row in the features.
        epochs: That lay behind it.
        accuracy: Share of the validation images that got their label; or another metric in [0, 1].
        loss: Mean cross-entropy in nats.
    """

    recipe: int
    epochs: int
    accuracy: float
    loss: float


@dataclass(frozen=True)
class Prior:
    """How much each thing counts.

    Attributes:
        shares: Of each kind of features in what features tell; their sum is 1.
        own: Share of a recipe's own part in a difference without noise.
        noise: Its variance over that of such a difference.
        fade: Correlation of a measure with the same one after twice as many epochs.
        tie: Correlation of accuracy and loss.
    """

    shares: tuple[float, ...]
    own: float
    noise: float
    fade: float
    tie: float


def grid(kinds: int) -> list[Prior]:
    """Return the priors that are averaged over."""
    simplex = [
        tuple(count / _STEPS for count in counts)
        for counts in itertools.product(range(_STEPS + 1), repeat=kinds)
        if sum(counts) == _STEPS
    ]
    return [Prior(*each) for each in itertools.product(simplex, _OWNS, _NOISES, _FADES, _TIES)]


class Guide:
    """The posterior over recipes.

    Attributes:
        weights: Of the priors that count, the sum being 1.

    Args:
        features: Of N recipes, a matrix ``[N, features]`` for each kind.
        measured: What is known.
        end: Epochs of a whole training: what is guessed is the accuracy then.
        priors: What is averaged over; default: :func:`grid`.

    Raises:
        ValueError: If nothing is known.
    """

    def __init__(
        self,
        features: Sequence[csr_array],
        measured: Sequence[Measured],
        end: int,
        priors: Sequence[Prior] | None = None,
    ) -> None:
        if not measured:
            raise ValueError("nothing was measured")
        data = _Data(features, measured, end)
        priors = grid(len(features)) if priors is None else priors
        evidence = np.array([_Fit(data, prior).evidence for prior in priors])
        weights = np.exp(evidence - evidence.max())
        kept = weights / weights.sum() >= _LEAST_WEIGHT
        self.weights: Array = weights[kept] / weights[kept].sum()
        self._fits = [_Fit(data, prior) for prior, keep in zip(priors, kept, strict=True) if keep]
        self._data = data

    def expect(self) -> tuple[Array, Array]:
        """Return mean and standard deviation ``[N]`` of the accuracy of recipes at the end.

        They are those of a recipe that was not measured.
        """
        first, second = np.zeros(self._data.recipes), np.zeros(self._data.recipes)
        for weight, fit in zip(self.weights, self._fits, strict=True):
            mean, variance = fit.latent()
            # Of sin² of a normal number, since the accuracy is that of its latent value.
            mean = np.clip(mean, 0.0, np.pi / 2)
            once = np.exp(-2 * variance) * np.cos(2 * mean)
            twice = np.exp(-8 * variance) * np.cos(4 * mean)
            first += weight * (1 - once) / 2
            second += weight * (3 - 4 * once + twice) / 8
        return first, np.sqrt(np.maximum(second - first**2, 0.0))

    def latent(self) -> tuple[Array, Array]:
        """Return mean and standard deviation ``[N]`` of arcsin √accuracy, which has no bounds."""
        first, second = np.zeros(self._data.recipes), np.zeros(self._data.recipes)
        for weight, fit in zip(self.weights, self._fits, strict=True):
            mean, variance = fit.latent()
            first += weight * mean
            second += weight * (variance + mean**2)
        return first, np.sqrt(np.maximum(second - first**2, 0.0))


class _Data:
    """What is known, as arrays: n values of some tasks, that is measures after some epochs."""

    def __init__(
        self, features: Sequence[csr_array], measured: Sequence[Measured], end: int
    ) -> None:
        self.features, self.recipes = features, features[0].shape[0]
        told = [(0, one.epochs, one.recipe, _latent(one.accuracy)) for one in measured]
        told += [(1, one.epochs, one.recipe, -np.log(max(one.loss, _LEAST_LOSS)))
                 for one in measured]  # fmt: skip
        told.sort()  # what is guessed must not depend on who was faster
        tasks = sorted({(measure, epochs) for measure, epochs, _, _ in told})
        self.task = np.array([tasks.index(each[:2]) for each in told])
        rows = sorted({row for _, _, row, _ in told})
        self.rows: Places = np.array(rows)
        self.who = np.array([rows.index(row) for _, _, row, _ in told])
        self.values: Array = np.array([value for *_, value in told])
        # The unit of each measure is how far networks differ where most of them were measured.
        self.unit = 1.0
        for measure in (1, 0):
            first = next(place for place, task in enumerate(tasks) if task[0] == measure)
            self.unit = float(np.std(self.values[self.task == first])) or 1.0
            self.values[np.array(tasks)[self.task, 0] == measure] /= self.unit
        tasks.append((0, end))  # the last one is what is guessed
        self.measures = np.array([measure for measure, _ in tasks])
        self.doublings: Array = np.log2([epochs for _, epochs in tasks])
        # The mean of the accuracy where most is known of the end.
        self.like_end = max((t for t in tasks[:-1] if t[0] == 0), key=lambda task: task[1])
        self.target = tasks.index(self.like_end)
        self.basis: Array = np.eye(len(tasks) - 1)[self.task]
        self.inner = [np.asarray((f[self.rows] @ f[self.rows].T).toarray()) for f in features]
        self.across = [np.asarray((f @ f[self.rows].T).toarray()) for f in features]
        self.lengths = [np.asarray(f.multiply(f).sum(axis=1)).ravel() for f in features]


class _Fit:
    """The posterior under one prior, whose variance is the one of greatest likelihood."""

    def __init__(self, data: _Data, prior: Prior) -> None:
        self._data, self._prior = data, prior
        gaps = np.abs(data.doublings[:, None] - data.doublings)
        tied = np.where(data.measures[:, None] != data.measures, prior.tie, 1.0)
        self._tasks: Array = prior.fade**gaps * tied
        pair = np.ix_(data.who, data.who)
        shared = (1 - prior.own) * _mix(prior.shares, data.inner)[pair]
        own = prior.own * (data.who[:, None] == data.who)
        covariance = (shared + own) * self._tasks[np.ix_(data.task, data.task)]
        covariance[np.diag_indices_from(covariance)] += prior.noise
        self._factor = cho_factor(covariance, lower=True)
        # Means of tasks of which nothing is known before (section 2.7).
        self._solved = self._solve(data.basis)
        self._precision = data.basis.T @ self._solved
        solved = self._solve(data.values)
        self._means = np.linalg.solve(self._precision, data.basis.T @ solved)
        self._dual: Array = solved - self._solved @ self._means
        free = len(data.values) - data.basis.shape[1]
        distance = float((data.values - data.basis @ self._means) @ self._dual)
        self._scale = max(distance, 1e-12) / max(free, 1)
        # Eq. 2.45 with the variance of the prior integrated out, 1/variance being its own prior.
        self.evidence = -0.5 * float(
            free * np.log(self._scale)
            + 2 * np.log(np.diag(self._factor[0])).sum()
            + np.linalg.slogdet(self._precision)[1]
        )

    def _solve(self, right: Array) -> Array:
        return np.asarray(cho_solve(self._factor, right, check_finite=False))

    def _cross(self) -> Array:
        """Return the covariance ``[N, n]`` of recipes at the end with what is known."""
        data, prior = self._data, self._prior
        shared = (1 - prior.own) * _mix(prior.shares, data.across)
        return np.asarray(shared[:, data.who] * self._tasks[-1, data.task])

    def latent(self) -> tuple[Array, Array]:
        """Return mean and variance ``[N]`` of the latent accuracy (Eqs. 2.41, 2.42)."""
        data, prior, cross = self._data, self._prior, self._cross()
        mean = self._means[data.target] + cross @ self._dual
        before = (1 - prior.own) * _mix(prior.shares, data.lengths) + prior.own
        known = (cross * self._solve(cross.T).T).sum(axis=1)
        wanted = np.eye(len(self._means))[data.target]
        rest = wanted - cross @ self._solved
        unsure = (rest * np.linalg.solve(self._precision, rest.T).T).sum(axis=1)
        variance = self._scale * np.maximum(before - known + unsure, 0.0)
        return mean * data.unit, variance * data.unit**2


def _latent(accuracy: float) -> float:
    """Return the value on which the noise of an accuracy is the same, high or low."""
    return float(np.arcsin(np.sqrt(min(max(accuracy, 0.0), 1.0))))


def _mix(shares: Sequence[float], arrays: Sequence[Array]) -> Array:
    return np.asarray(sum(share * array for share, array in zip(shares, arrays, strict=True)))
