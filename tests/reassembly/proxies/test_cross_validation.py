"""The accuracy of a linear head on images that it has not seen, against fits fold by fold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from zoo_search.core.identity import ranks
from zoo_search.data.splits import deal
from zoo_search.networks.ridge import ALPHAS, numbers_held_out
from zoo_search.reassembly.proxies.cross_validation import (
    CrossValidated,
    cross_validated,
    held_out_answers,
)


def clusters(n: int, d: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    features = rng.normal(size=(classes, d))[labels] + 1.5 * rng.normal(size=(n, d)) + 3
    return torch.from_numpy(features), torch.from_numpy(labels)


def by_scikit_learn(x: np.ndarray, labels: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Fit anew without each part: the penalty by a quarter of the rest, then on all of the rest."""
    y = np.eye(labels.max() + 1)[labels]
    chooses = numbers_held_out(torch.arange(len(x))).numpy()
    answers = np.full(len(x), -1)
    # A rotation to as many features as there are images changes what the penalty is a share of.
    width = min(x.shape)

    def penalty(alpha: float, images: np.ndarray) -> float:
        centred = x[images] - x[images].mean(axis=0)
        return alpha * float(np.square(centred).sum()) / width

    for held in range(part.max() + 1):
        rest = part != held
        fit, test = rest & ~chooses, rest & chooses
        errors = []
        for alpha in ALPHAS:
            head = Ridge(penalty(alpha, fit), solver="svd").fit(x[fit], y[fit])
            errors.append(np.square(head.predict(x[test]) - y[test]).sum())
        alpha = ALPHAS[int(np.argmin(errors))]
        head = Ridge(penalty(alpha, rest), solver="svd").fit(x[rest], y[rest])
        answers[part == held] = head.predict(x[part == held]).argmax(axis=1)
    return answers


@pytest.mark.parametrize(("n", "d", "classes"), [(60, 8, 3), (40, 90, 4), (33, 33, 2)])
def test_answers_are_those_of_a_fit_without_the_part(n: int, d: int, classes: int) -> None:
    features, labels = clusters(n, d, classes)
    part = deal(labels.numpy(), ranks([str(i) for i in range(n)], 0, "fold"), 5)
    answers = held_out_answers(features, labels, torch.from_numpy(part)).numpy()
    assert answers.tolist() == by_scikit_learn(features.numpy(), labels.numpy(), part).tolist()
    found = cross_validated(features, labels)
    assert found is not None
    assert found.right == int((answers == labels.numpy()).sum())
    assert (found.images, found.folds) == (n, 5)


def test_labels_that_features_say_nothing_of_are_guessed() -> None:
    features, labels = torch.randn(400, 12), torch.randint(0, 4, (400,))
    found = cross_validated(features, labels)
    assert found is not None
    assert abs(found.accuracy - 0.25) < 4 * found.standard_error
    assert found.guessed == pytest.approx(float(torch.bincount(labels).max()) / 400)


def test_the_only_image_of_a_class_is_learned_from_and_not_held_out() -> None:
    features, labels = clusters(20, 4, 2)
    labels[3] = 2
    found = cross_validated(features, labels)
    assert found is not None
    assert found.images == 19


def test_few_images_make_few_folds_and_single_ones_none() -> None:
    features, labels = torch.randn(4, 3), torch.tensor([0, 0, 1, 2])
    found = cross_validated(features, labels)
    assert found is not None
    assert (found.images, found.folds) == (2, 2)
    assert cross_validated(features, torch.arange(4)) is None


def test_the_standard_error_is_that_of_a_share_and_never_zero() -> None:
    found = CrossValidated(right=900, images=1000, folds=5, guessed=0.1)
    assert found.standard_error == pytest.approx(math.sqrt(0.9 * 0.1 / 1000), rel=0.02)
    assert CrossValidated(10, 10, 5, 0.5).standard_error > 0.05
