"""An additive-plus-pairwise model of scores: a weight a block, and one a pair of blocks at a joint.

Bayesian ridge regression: the weights of blocks and of pairs have normal priors whose variances
are ``(1 - rho) / K`` and ``rho / (K - 1)`` of the prior variance of a score, so that ``rho`` is
the share of pairs in it. In the space of scores that is a Gaussian process whose kernel counts
the blocks and pairs which two recipes have in common, so that the cost of a fit depends on the
number of scores and not on the number of weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo_search.networks.recipe import BlockRef, Part

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

_SHARES = (0.0, 0.1, 0.3, 0.6)
_NOISES = (1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True)
class Penalty:
    """What the ridge regression holds against weights."""

    share: float  # ``rho`` of the pairs in the prior variance of a score
    noise: float  # its variance over the prior variance of a score


class Surrogate:
    """The model on a fixed set of scored recipes, of one block (or end) a stage each.

    Scores are centred and scaled here. The default penalty is the one of least leave-one-out error
    (:func:`choose_penalty`).
    """

    def __init__(
        self,
        stages: Sequence[Sequence[BlockRef]],
        recipes: Sequence[Sequence[BlockRef]],
        scores: Sequence[float],
        penalty: Penalty | None = None,
    ) -> None:
        self._blocks = list(itertools.chain(*stages))
        self._pairs = [p for two in itertools.pairwise(stages) for p in itertools.product(*two)]
        self._singles = _codes(self._blocks, recipes)
        self._joints = _codes(self._pairs, [list(itertools.pairwise(r)) for r in recipes])
        values = np.asarray(scores, dtype=np.float64)
        self._y: Array = (values - values.mean()) / (values.std() or 1.0)
        common = _common(self._singles), _common(self._joints)
        self.penalty = penalty or choose_penalty(*common, self._y)
        self._deviations = _deviations(self._singles.shape[1], self.penalty.share)
        # The dual form: priors on weights make a covariance of scores that counts common blocks and
        # pairs. N scores need an N × N matrix, however many weights there are.
        kernel = _mix(*common, self.penalty.share) + self.penalty.noise * np.eye(len(values))
        self._inverse = np.asarray(np.linalg.inv(kernel), dtype=np.float64)

    def mean(self) -> dict[Part, float]:
        """Return the posterior mean of the weights: the ridge regression."""
        return self._update(np.zeros(len(self._blocks)), np.zeros(len(self._pairs)), self._y)

    def draw(self, rng: np.random.Generator) -> dict[Part, float]:
        """Draw weights from the posterior, for Thompson sampling.

        By Matheron's rule (Wilson et al., ICML 2020, Eq. 7): a draw from the prior, corrected by
        what it gets wrong. The prior variance is the one of greatest likelihood.
        """
        size = len(self._y)
        scale = np.sqrt(max(float(self._y @ self._inverse @ self._y) / size, 1e-12))
        blocks = scale * self._deviations[0] * rng.standard_normal(len(self._blocks))
        pairs = scale * self._deviations[1] * rng.standard_normal(len(self._pairs))
        # Weights w drawn from the prior give the scores f; w + Cov(w, y) Cov(y)⁻¹ (y - f - noise)
        # has exactly the posterior's mean and covariance.
        error = scale * np.sqrt(self.penalty.noise) * rng.standard_normal(size)
        seen = blocks[self._singles].sum(axis=1) + pairs[self._joints].sum(axis=1)
        return self._update(blocks, pairs, self._y - seen - error)

    def _update(self, blocks: Array, pairs: Array, residual: Array) -> dict[Part, float]:
        """Return weights corrected by their covariance with the residual ``[N]``."""
        dual = self._inverse @ residual
        of_block, of_pair = self._deviations
        blocks = blocks + of_block**2 * _scatter(self._singles, dual, len(blocks))
        pairs = pairs + of_pair**2 * _scatter(self._joints, dual, len(pairs))
        parts: list[Part] = [*self._blocks, *self._pairs]
        return dict(zip(parts, [*blocks.tolist(), *pairs.tolist()], strict=True))


def choose_penalty(blocks: Array, pairs: Array, y: Array) -> Penalty:
    """Return the penalty of least squared leave-one-out error, of a fixed grid.

    The error of leaving out score i is ``(A y)_i / A_ii`` with ``A = (K + noise I)^-1`` (Rasmussen
    and Williams, 2006, Eq. 5.12), so that nothing is fitted again. ``blocks`` and ``pairs``
    ``[N, N]`` count what recipes have in common; y ``[N]`` are centred scores.
    """
    best, chosen = np.inf, Penalty(_SHARES[0], _NOISES[-1])
    for share in _SHARES:
        values, vectors = np.linalg.eigh(_mix(blocks, pairs, share))
        turned, squares = vectors.T @ y, vectors**2
        for noise in _NOISES:
            inverse = 1.0 / (np.maximum(values, 0.0) + noise)
            errors = (vectors @ (inverse * turned)) / (squares @ inverse)
            error = float(errors @ errors)
            if error < best:
                best, chosen = error, Penalty(share, noise)
    return chosen


def _deviations(k: int, share: float) -> tuple[float, float]:
    """Return the prior standard deviations of a block's and of a pair's weight."""
    if k == 1:
        return 1.0, 0.0
    return float(np.sqrt((1 - share) / k)), float(np.sqrt(share / (k - 1)))


def _mix(blocks: Array, pairs: Array, share: float) -> Array:
    """Return the kernel ``[N, N]``: 1 for equal recipes."""
    k = round(float(blocks[0, 0]))
    of_block, of_pair = _deviations(k, share)
    return of_block**2 * blocks + of_pair**2 * pairs


def _codes(items: Sequence[object], recipes: Sequence[Sequence[object]]) -> Codes:
    """Return the index of each recipe's items, ``[N, K]``."""
    place = {item: index for index, item in enumerate(items)}
    found = np.array([[place[item] for item in recipe] for recipe in recipes], dtype=np.int64)
    return found.reshape(len(recipes), -1)


def _common(codes: Codes) -> Array:
    """Return how many items each two recipes have in common, ``[N, N]``."""
    same = codes[:, None, :] == codes[None, :, :]
    return np.asarray(same.sum(axis=2), dtype=np.float64)


def _scatter(codes: Codes, dual: Array, size: int) -> Array:
    """Return, for each item, the sum of ``dual`` over the recipes that hold it."""
    spread = np.repeat(dual, codes.shape[1])
    found = np.bincount(codes.ravel(), weights=spread, minlength=size)
    return np.asarray(found, dtype=np.float64)
