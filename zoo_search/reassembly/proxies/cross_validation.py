"""How well a linear head on frozen features would do: its accuracy on images that it has not seen.

Ridge regression of one-hot labels has a closed form, and its moments are sums over images: those of
all folds but one are added up, so that a fold costs a decomposition and no pass over the images.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_search.core.identity import ranks
from zoo_search.data.splits import deal
from zoo_search.networks.ridge import Moments, fit_ridge, numbers_held_out

FOLDS = 5
"""Parts that the images are cut into, if there are as many of classes with two images or more."""


@dataclass(frozen=True)
class CrossValidated:
    """How many images a head got right that was fitted without them.

    Attributes:
        right: Images whose class it named.
        images: Images that were held out, each once.
        folds: Parts that they were held out in.
        guessed: Share of the most frequent class: what naming it every time would get right.
    """

    right: int
    images: int
    folds: int
    guessed: float

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return self.right / self.images

    @property
    def standard_error(self) -> float:
        """Of the accuracy, over other images of the same kind, those of the training aside.

        ``sqrt(p (1 - p) / n)`` with two right and two wrong answers added to those that were given
        (Agresti & Coull, 1998): without them it would be 0 where all or none are right.
        """
        n = self.images + 4
        p = (self.right + 2) / n
        return math.sqrt(p * (1 - p) / n)


def cross_validated(features: Tensor, labels: Tensor, seed: int = 0) -> CrossValidated | None:
    """Return how well a ridge head on features ``[N, D]`` names labels ``[N]`` it has not seen.

    The images are cut into :data:`FOLDS` stratified parts. None: no two images can be held out
    apart, since nearly all classes have one image only.
    """
    rank = ranks([str(i) for i in range(len(labels))], seed, "fold")
    classes = labels.cpu().numpy()
    dealt = int((deal(classes, rank, FOLDS) >= 0).sum())
    if dealt < 2:
        return None
    folds = min(FOLDS, dealt)
    part = torch.from_numpy(deal(classes, rank, folds)).to(labels.device)
    answers = held_out_answers(features, labels, part)
    out = part >= 0
    right = int((answers[out] == labels[out].to(answers.device)).sum())
    guessed = float(torch.bincount(labels).max()) / len(labels)
    return CrossValidated(right, int(out.sum()), folds, guessed)


def held_out_answers(features: Tensor, labels: Tensor, part: Tensor) -> Tensor:
    """Return the class of each image, ``[N]``, as a head names it that was fitted without its part.

    The penalty is chosen inside the other parts, on a quarter of them (as
    :func:`zoo_search.networks.ridge.fit_ridge` does for all heads), and so never by the images that
    are judged. Images of the part -1 are in every fit and in no part; their answer is -1.
    """
    x = features.double() - features.double().mean(dim=0)
    if len(x) < x.shape[1]:
        # Ridge depends on the features by their inner products alone. x = RᵀQᵀ with orthonormal Q,
        # so that Rᵀ, as wide as there are images, has the same.
        x = torch.linalg.qr(x.T, mode="r").R.T
    y = F.one_hot(labels.to(x.device)).double()
    chooses = numbers_held_out(torch.arange(len(x), device=x.device))

    def moments(images: Tensor) -> Moments:
        found = Moments(x.shape[1], y.shape[1], x.device)
        found.add(x[images], y[images])
        return found

    part = part.to(x.device)
    numbers = sorted(set(part.tolist()))
    fits = {p: moments((part == p) & ~chooses) for p in numbers}
    tests = {p: moments((part == p) & chooses) for p in numbers}
    answers = torch.full_like(part, -1)
    for held in (p for p in numbers if p >= 0):
        train, test = (
            functools.reduce(operator.add, (each[p] for p in numbers if p != held))
            for each in (fits, tests)
        )
        head = fit_ridge(train, test)
        answers[part == held] = (x[part == held] @ head.weight.T + head.bias).argmax(dim=1)
    return answers
