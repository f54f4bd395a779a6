"""What every similarity metric keeps to: two cuts' features on the same images to a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from zoo_search.similarities.estimators.products import PairSums, stack
from zoo_search.similarities.estimators.registry import Metric, Products, get_metric, vector_length
from zoo_search.similarities.passes.grams import dequantise, quantise
from zoo_search.testing.small import nothing_else_touched, travelled

Values = npt.NDArray[np.float64]
Features = Sequence[Values]
"""The features of one cut ``[n, d]``, float64, one matrix a batch."""

Batches = Sequence[Sequence[Tensor]]
"""For each batch, the feature matrices ``[n, d_i]`` of all cuts."""


def table_of(metric: Metric, batches: Batches, *, stored: bool = False) -> npt.NDArray[np.float32]:
    """Return the similarity of every two of ``m`` cuts ``[m, m]`` by the vectors of a metric.

    ``stored`` rounds vectors as they are in Gram files.
    """
    count = len(batches[0])
    sums = PairSums(metric, count)
    for features in batches:
        rows, norms = stack((metric.embed(x) for x in features), count)
        sums.add(dequantise(quantise(rows)) if stored else rows, norms)
    return sums.values()


class _Products(Metric):
    """Takes the products without vectors, whatever they cost."""

    def shortcut(self, samples: int, widths: Sequence[int]) -> Products | None:
        """Return them."""
        return self.products


class MetricContract:
    """Derive from this, say in :meth:`reference` what the metric is, and run pytest.

    Of what it says of itself, ``rotation``, ``scale`` and ``shift`` are invariances to a rotation
    or a common factor of either side's features, or to a constant added to every image's.
    """

    metric: ClassVar[str]
    """Its name, or ``module:package.mod:function``."""
    in_unit_interval: ClassVar[bool] = False
    unbiased: ClassVar[bool] = False
    """Whether features that have nothing in common read about 0, however many they are."""
    rotation: ClassVar[bool] = True
    scale: ClassVar[bool] = True
    shift: ClassVar[bool] = True
    invertible: ClassVar[bool] = False
    """Whether any invertible map of the row's features changes nothing."""
    stored_error: ClassVar[float] = 2e-3
    """How far off a value may be after its vectors were stored as float16."""

    def reference(self, xs: Features, ys: Features) -> float:
        """Return the value of a row's features and a column's, from the formula, in float64."""
        raise NotImplementedError("write down what the metric is")

    @pytest.fixture
    def found(self) -> Metric:
        """The metric under test."""
        return get_metric(self.metric)

    @pytest.fixture(params=["few features", "many features"])
    def batches(self, request: pytest.FixtureRequest) -> Batches:
        """Five cuts of a chain of random layers on three batches of 24 images, in float64."""
        widths = [3, 6, 5, 8, 4] if request.param == "few features" else [40, 60, 50, 70, 30]
        generator = torch.Generator().manual_seed(7)
        x = torch.randn(72, widths[0], generator=generator, dtype=torch.float64)
        cuts = [x]
        for width in widths[1:]:
            layer = torch.randn(x.shape[1], width, generator=generator, dtype=torch.float64)
            x = torch.relu(x @ layer / x.shape[1] ** 0.5 + 0.3)
            x = x + 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
            cuts.append(x)
        return [[cut[start : start + 24] for cut in cuts] for start in (0, 24, 48)]

    @pytest.fixture
    def expected(self, batches: Batches) -> Values:
        """The reference's table."""
        columns = [[batch[i].numpy() for batch in batches] for i in range(len(batches[0]))]
        return np.array([[self.reference(a, b) for b in columns] for a in columns])

    def test_float32_is_the_reference(
        self, found: Metric, batches: Batches, expected: Values
    ) -> None:
        """To four digits, whether there are fewer features than images or more."""
        values = table_of(found, [[x.float() for x in batch] for batch in batches])
        assert np.abs(values - expected)[_off(values)].max() < 1e-4

    def test_the_stored_precision_is_near_the_reference(
        self, found: Metric, batches: Batches, expected: Values
    ) -> None:
        """Gram files hold float16 by default."""
        values = table_of(found, [[x.float() for x in batch] for batch in batches], stored=True)
        assert np.abs(values - expected)[_off(values)].max() < self.stored_error

    def test_products_are_those_of_the_vectors(self, found: Metric, batches: Batches) -> None:
        """Where there is a second way, it gives the same."""
        if found.products is None:
            pytest.skip("it has vectors only")
        features = [[x.float() for x in batch] for batch in batches]
        sums = PairSums(_Products(**vars(found)), len(features[0]))
        for batch in features:
            sums.add_features(batch, len(batch[0]), [x.shape[1] for x in batch])
        assert np.abs(sums.values() - table_of(found, features)).max() < 1e-4

    def test_a_cut_is_like_its_copy(self, found: Metric, batches: Batches) -> None:
        """1 with itself, also where the table does not write its diagonal."""
        values = table_of(found, [[batch[1], batch[1].clone()] for batch in batches])
        assert values == pytest.approx(1, abs=1e-5)

    def test_it_is_symmetric_where_it_says_so(self, found: Metric, expected: Values) -> None:
        """Only half of a symmetric table is computed."""
        if not found.symmetric:
            pytest.skip("it does not say so")
        assert np.abs(expected - expected.T).max() < 1e-9

    def test_values_lie_in_the_unit_interval_where_it_says_so(
        self, found: Metric, batches: Batches
    ) -> None:
        """For features that depend on each other and for noise."""
        if not self.in_unit_interval:
            pytest.skip("it does not say so")
        generator = torch.Generator().manual_seed(2)
        noise = [list(torch.randn(12, 24, 80, generator=generator, dtype=torch.float64))]
        values = np.r_[table_of(found, batches).ravel(), table_of(found, noise).ravel()]
        assert values.min() >= -1e-5
        assert values.max() <= 1 + 1e-5

    def test_what_has_nothing_in_common_reads_zero_where_it_is_unbiased(
        self, found: Metric
    ) -> None:
        """512 random features of 64 images: the biased CKA reads 0.89."""
        if not self.unbiased:
            pytest.skip("it does not say so")
        generator = torch.Generator().manual_seed(0)
        for _ in range(5):
            noise = [list(torch.randn(2, 64, 512, generator=generator))]
            assert abs(table_of(found, noise)[0, 1]) < 0.1

    @pytest.mark.parametrize("change", ["rotation", "scale", "shift", "invertible"])
    def test_it_is_invariant_to_what_it_says(
        self, found: Metric, batches: Batches, change: str
    ) -> None:
        """The row's features are changed, the column's are not."""
        if not (getattr(self, change) or (change == "rotation" and self.invertible)):
            pytest.skip("it does not say so")
        first = [batch[1] for batch in batches]
        changed = _changed(first, change)
        plain = table_of(found, [(x, batch[3]) for x, batch in zip(first, batches, strict=True)])
        moved = table_of(found, [(x, batch[3]) for x, batch in zip(changed, batches, strict=True)])
        assert abs(float(moved[0, 1] - plain[0, 1])) < 1e-5

    def test_the_order_of_batches_and_of_images_plays_no_part(
        self, found: Metric, batches: Batches
    ) -> None:
        """Actors finish when they finish, and the images of a batch are a set."""
        values = table_of(found, batches)
        order = torch.randperm(len(batches[0][0]), generator=torch.Generator().manual_seed(0))
        shuffled = [[x[order] for x in batch] for batch in reversed(batches)]
        assert np.abs(table_of(found, shuffled) - values).max() < 1e-5

    def test_vectors_are_what_the_sums_take(self, found: Metric, batches: Batches) -> None:
        """Float32 of unit length, as many and as long as is said, whatever the features are."""
        for features in batches[0]:
            embedding = found.embed(features)
            assert embedding.rows.dtype == torch.float32
            assert embedding.norms.dtype == torch.float64
            length = vector_length(self.metric, len(features))
            assert embedding.rows.shape == (found.vectors, length)
            assert embedding.norms.shape == (found.vectors,)
            lengths = torch.linalg.vector_norm(embedding.rows.double(), dim=1)
            assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-5)

    @pytest.mark.parametrize("constant", [0.0, 1000.1])
    def test_constant_features_are_like_nothing(self, found: Metric, constant: float) -> None:
        """A dead layer has similarity 0 with every other, and not NaN."""
        x = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
        values = table_of(found, [[x, torch.full((30, 4), constant)]])
        assert values.tolist() == [[1, 0], [0, 1]]

    def test_a_dead_channel_is_no_trouble(self, found: Metric) -> None:
        """Behind a ReLU there are many that are 0 for every image."""
        x, y = torch.randn(2, 30, 6, generator=torch.Generator().manual_seed(0))
        x[:, 2] = 0
        y[:, 4] = 1000.1
        assert np.isfinite(table_of(found, [[x, y]])).all()

    @pytest.mark.parametrize("factor", [1e-18, 1e18])
    def test_extreme_features_neither_overflow_nor_vanish(
        self, found: Metric, factor: float
    ) -> None:
        """Values of layers differ by many orders of magnitude."""
        x, y = torch.randn(2, 30, 6, generator=torch.Generator().manual_seed(0))
        values = table_of(found, [[x * factor, y]])
        assert np.isfinite(values).all()
        if self.scale:
            assert np.abs(values - table_of(found, [[x, y]])).max() < 1e-5

    def test_features_are_left_as_they_were(self, found: Metric, batches: Batches) -> None:
        """They go on to the next metric; and the process is as it was."""
        features = [x.clone() for x in batches[0]]
        with nothing_else_touched():
            table_of(found, [features])
        assert all(torch.equal(a, b) for a, b in zip(features, batches[0], strict=True))

    def test_it_travels_to_a_worker(self, found: Metric, batches: Batches) -> None:
        """By value, as Ray sends it."""
        assert (table_of(travelled(found), batches) == table_of(found, batches)).all()


def _off(values: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Return where a table is not its diagonal, which is written and not computed."""
    return ~np.eye(len(values), dtype=np.bool_)


def _changed(batches: Sequence[Tensor], change: str) -> list[Tensor]:
    """Return features ``[n, d]`` of every batch after one change, the same for all."""
    width = batches[0].shape[1]
    generator = torch.Generator().manual_seed(5)
    square = torch.randn(width, width, generator=generator, dtype=torch.float64)
    turn, _ = torch.linalg.qr(square)
    if change == "rotation":
        return [x @ turn for x in batches]
    if change == "scale":
        return [x * 37.5 for x in batches]
    if change == "shift":
        return [x + square[0] for x in batches]
    # Far from a rotation, and far from singular.
    return [x @ (turn * torch.linspace(0.4, 2, width, dtype=torch.float64)) for x in batches]
