"""Properties of the seeded, stratified choices."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo_search.core.identity import ranks
from zoo_search.data.splits import choose, deal, split_off_test

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=8)
SEEDS = st.integers(0, 2**31)


def labels_of(sizes: list[int], seed: int) -> np.ndarray:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(seed).permutation(labels)


@settings(max_examples=50)
@given(SIZES, SEEDS, st.data())
def test_choices_are_stratified(sizes: list[int], seed: int, data: st.DataObject) -> None:
    labels = labels_of(sizes, seed)
    total = data.draw(st.integers(0, len(labels)))
    chosen = choose(labels, ranks([str(i) for i in range(len(labels))], seed, "x"), total)
    taken = np.bincount(labels[chosen], minlength=len(sizes))
    assert taken.sum() == total
    if total >= len(sizes):
        assert taken.min() >= 1
    if len(set(sizes)) == 1:
        assert taken.max() - taken.min() <= 1


def test_a_choice_follows_the_classes_sizes() -> None:
    labels = np.repeat([0, 1, 2], [1000, 300, 20])
    chosen = choose(labels, ranks([str(i) for i in range(1320)], 0, "x"), 132)
    assert np.bincount(labels[chosen]).tolist() == [100, 30, 2]


@settings(max_examples=50)
@given(SIZES, SEEDS, st.data())
def test_choices_are_nested_and_do_not_depend_on_the_listing(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    labels = labels_of(sizes, seed)
    ids = [f"class{label}/{i}.png" for i, label in enumerate(labels)]
    total = data.draw(st.integers(1, len(ids)))
    chosen = choose(labels, ranks(ids, seed, "x"), total)
    assert len(set(chosen.tolist())) == total
    order = np.random.default_rng(seed + 1).permutation(len(ids))
    again = choose(labels[order], ranks([ids[i] for i in order], seed, "x"), total)
    assert [ids[order[i]] for i in again] == [ids[i] for i in chosen]
    fewer = choose(labels, ranks(ids, seed, "x"), total - 1)
    assert set(fewer.tolist()) <= set(chosen.tolist())


@settings(max_examples=100)
@given(SIZES, SEEDS, st.integers(2, 12))
def test_images_are_dealt_evenly(sizes: list[int], seed: int, count: int) -> None:
    labels = labels_of(sizes, seed)
    ids = [f"class{label}/{i}.png" for i, label in enumerate(labels)]
    part = deal(labels, ranks(ids, seed, "x"), count)
    only = np.asarray(sizes)[labels] == 1
    assert np.array_equal(part == -1, only)
    total = np.bincount(part[~only], minlength=count)
    assert len(total) == count
    assert total.max() - total.min() <= 1
    for label, size in enumerate(sizes):
        its = np.bincount(part[(labels == label) & ~only], minlength=count)
        assert its.max() - its.min() <= 1
        assert its.max() < size
    order = np.random.default_rng(seed + 1).permutation(len(ids))
    again = deal(labels[order], ranks([ids[i] for i in order], seed, "x"), count)
    assert np.array_equal(again, part[order])


def test_another_seed_deals_other_parts() -> None:
    labels = np.repeat([0, 1], 20)
    ids = [str(i) for i in range(40)]
    one, other = (deal(labels, ranks(ids, seed, "x"), 4) for seed in (0, 1))
    assert not np.array_equal(one, other)


@settings(max_examples=50)
@given(SIZES, SEEDS)
def test_eighty_twenty(sizes: list[int], seed: int) -> None:
    labels = labels_of(sizes, seed)
    test = split_off_test(labels, ranks([str(i) for i in range(len(labels))], seed, "s"), None)
    for label, size in enumerate(sizes):
        held_out = int(test[labels == label].sum())
        assert held_out < size
        assert held_out >= (size >= 2)
        assert abs(held_out - 0.2 * size) <= 1


@settings(max_examples=50)
@given(SIZES, SEEDS, st.data())
def test_per_class_is_exact(sizes: list[int], seed: int, data: st.DataObject) -> None:
    labels = labels_of(sizes, seed)
    n = data.draw(st.integers(1, min(sizes)))
    test = split_off_test(labels, ranks([str(i) for i in range(len(labels))], seed, "s"), n)
    assert all(int((~test[labels == label]).sum()) == n for label in range(len(sizes)))
