"""Metrics with one plausible fault each."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from zoo_search.similarities.estimators.registry import (
    METRICS,
    Embed,
    Embedding,
    Metric,
    MetricTraits,
)
from zoo_search.testing.metrics import Features, MetricContract


def centred(x: Tensor) -> Tensor:
    x = x.double() - x.double().mean(dim=0)
    x = x / x.abs().max().clamp_min(1e-300)
    noise = 1e-6 * (1 if x.abs().max() > 0 else 0)
    return x * (x.abs().amax(dim=0) > noise)


def sound(x: Tensor) -> Embedding:
    """A metric that is sound: biased CKA by whole Gram matrices, the mean over batches."""
    x = centred(x)
    one = Embedding.of((x @ x.T).flatten())
    return replace(one, norms=(one.norms > 0).double())


class Broken(MetricContract):
    must_fail: ClassVar[set[str]] = set()
    metric = "test_broken"
    traits: ClassVar[MetricTraits] = MetricTraits(summed=False)
    in_unit_interval = True

    @staticmethod
    def embed(x: Tensor) -> Embedding:
        return sound(x)

    @pytest.fixture(autouse=True)
    def _registered(self) -> Iterator[None]:
        METRICS.register("test_broken")(lambda x: self.embed(x))
        yield
        METRICS.unregister("test_broken")

    @pytest.fixture
    def found(self) -> Metric:
        embed: Embed = self.embed
        return Metric(embed=embed, **vars(self.traits))

    def reference(self, xs: Features, ys: Features) -> float:
        values = []
        for x, y in zip(xs, ys, strict=True):
            x, y = x - x.mean(0), y - y.mean(0)
            norm = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
            values.append(np.linalg.norm(x.T @ y) ** 2 / norm)
        return float(np.mean(values))


class TestSound(Broken):
    pass


class TestNotCentred(Broken):
    must_fail: ClassVar = {
        "test_float32_is_the_reference",
        "test_the_stored_precision_is_near_the_reference",
        "test_it_is_invariant_to_what_it_says",
        "test_constant_features_are_like_nothing",
    }

    @staticmethod
    def embed(x):
        one = Embedding.of((x @ x.T).flatten())
        return replace(one, norms=(one.norms > 0).double())


class TestSummedAsAMean(Broken):
    """Lengths kept, which count twice where nothing is divided by them."""

    must_fail: ClassVar = {
        "test_float32_is_the_reference",
        "test_a_cut_is_like_its_copy",
        "test_values_lie_in_the_unit_interval_where_it_says_so",
    }

    @staticmethod
    def embed(x):
        x = centred(x)
        return Embedding.of((x @ x.T).flatten())


class TestProducts(Broken):
    """The second way leaves the squares out."""

    must_fail: ClassVar = {"test_products_are_those_of_the_vectors"}

    @staticmethod
    def products(features: Sequence[Tensor]) -> Tensor:
        grams = [centred(x) for x in features]
        units = [x / torch.linalg.matrix_norm(x.T @ x).sqrt() for x in grams]
        return torch.stack([torch.stack([(a.T @ b).norm() for b in units]) for a in units])

    traits = MetricTraits(summed=False, products=products.__func__)  # type: ignore[attr-defined]


class TestOneSided(Broken):
    """The share of the column that the row explains, said to be symmetric."""

    must_fail: ClassVar = {"test_it_is_symmetric_where_it_says_so"}

    def reference(self, xs, ys):
        values = []
        for x, y in zip(xs, ys, strict=True):
            x, y = x - x.mean(0), y - y.mean(0)
            values.append(np.linalg.norm(x.T @ y) ** 2 / np.linalg.norm(x.T @ x) ** 2)
        return float(np.mean(values))


class TestSaysUnbiased(Broken):
    must_fail: ClassVar = {"test_what_has_nothing_in_common_reads_zero_where_it_is_unbiased"}
    unbiased = True


class TestSaysInvertible(Broken):
    must_fail: ClassVar = {"test_it_is_invariant_to_what_it_says"}
    invertible = True


class TestFirstCounts(Broken):
    """Distances from the first image stand for all of them."""

    must_fail: ClassVar = {"test_the_order_of_batches_and_of_images_plays_no_part"}

    @staticmethod
    def embed(x):
        one = Embedding.of(centred((x - x[:1]).double().square()).sum(dim=1))
        return replace(one, norms=(one.norms > 0).double())


class TestLengthOfFeatures(Broken):
    """Vectors as long as the features are wide, in float64."""

    must_fail: ClassVar = {"test_vectors_are_what_the_sums_take"}

    @staticmethod
    def embed(x):
        one = sound(x)
        return replace(one, rows=one.rows.double()[:, : 24 * x.shape[1]])


class TestEachChannel(Broken):
    """Channels over their deviation, which some of them do not have."""

    must_fail: ClassVar = {"test_a_dead_channel_is_no_trouble"}

    @staticmethod
    def embed(x):
        return sound(x / x.std(dim=0))


class TestNotANumber(Broken):
    must_fail: ClassVar = {"test_constant_features_are_like_nothing"}

    @staticmethod
    def embed(x):
        x = centred(x)
        flat = (x @ x.T).flatten()[None]
        return Embedding((flat / flat.norm()).float(), torch.ones(1, dtype=torch.float64))


class TestSquares(Broken):
    """Squares of float32, which overflow."""

    must_fail: ClassVar = {"test_extreme_features_neither_overflow_nor_vanish"}

    @staticmethod
    def embed(x):
        x = x - x.mean(dim=0)
        one = Embedding.of((x @ x.T).flatten())
        return replace(one, norms=(one.norms > 0).double())


class TestInPlace(Broken):
    must_fail: ClassVar = {"test_features_are_left_as_they_were"}

    @staticmethod
    def embed(x):
        x -= x.mean(dim=0)
        return sound(x)


class TestRandomProjection(Broken):
    must_fail: ClassVar = {"test_features_are_left_as_they_were"}

    @staticmethod
    def embed(x):
        return sound(x @ torch.linalg.qr(torch.randn(x.shape[1], x.shape[1]).to(x))[0])


class TestStaysHere(Broken):
    must_fail: ClassVar = {"test_it_travels_to_a_worker"}

    @pytest.fixture
    def found(self) -> Metric:
        lock = threading.Lock()

        def embed(x: Tensor) -> Embedding:
            with lock:
                return sound(x)

        return Metric(embed=embed, **vars(self.traits))
