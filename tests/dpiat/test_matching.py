"""The dynamic program against enumeration, and the properties of its matchings."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import networks, shape_score

from zoo_search.dpiat.alignment import align
from zoo_search.dpiat.matching import layer_scores, match, match_blocks
from zoo_search.dpiat.standardize import Block, standardize

score_values = st.one_of(st.just(0.0), st.sampled_from([0.25, 0.5, 1.0]), st.floats(0.01, 1.0))


@st.composite
def score_tables(draw: st.DrawFn, largest: int = 5) -> np.ndarray:
    n, m = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    values = draw(st.lists(score_values, min_size=n * m, max_size=n * m))
    return np.array(values).reshape(n, m)


def enumerate_best(scores: np.ndarray) -> float:
    """Try every way to give the sources, in order, disjoint ranges of targets in order."""
    n, m = scores.shape

    def best(first: int, source: int) -> float:
        if source == m:
            return 0.0
        value = best(first, source + 1)
        for start in range(first, n):
            for stop in range(start + 1, n + 1):
                suitable = [x for x in scores[start:stop, source] if x > 0]
                if suitable:
                    gain = sum(suitable) / math.sqrt(len(suitable))
                    value = max(value, gain + best(stop, source + 1))
        return value

    return best(0, 0)


def value_of(scores: np.ndarray, pairs: list[tuple[int, int]]) -> float:
    total = 0.0
    for source in {j for _, j in pairs}:
        matched = [scores[i, j] for i, j in pairs if j == source]
        total += sum(matched) / math.sqrt(len(matched))
    return total


@settings(max_examples=150, deadline=None)
@given(score_tables())
def test_score_is_the_best_of_all_matchings(scores: np.ndarray) -> None:
    assert align(scores)[0] == pytest.approx(enumerate_best(scores), abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(score_tables(largest=9))
def test_pairs_never_cross_and_are_worth_the_score(scores: np.ndarray) -> None:
    score, pairs = align(scores)
    targets, sources = [i for i, _ in pairs], [j for _, j in pairs]
    assert targets == sorted(set(targets))
    assert sources == sorted(sources)
    assert all(scores[i, j] > 0 for i, j in pairs)
    assert value_of(scores, pairs) == pytest.approx(score, abs=1e-12)


def test_equal_blocks_use_both_sources() -> None:
    """The example of section 3.3: three targets, two sources, all scores equal."""
    score, pairs = align(np.full((3, 2), 0.5))
    assert {j for _, j in pairs} == {0, 1}
    assert len(pairs) == 3
    assert score == pytest.approx(0.5 + 0.5 * math.sqrt(2))


@settings(max_examples=60, deadline=None)
@given(networks(4), networks(4))
def test_both_phases_against_enumeration(target: list[Block], source: list[Block]) -> None:
    blocks = [
        [enumerate_best(np.array([[shape_score(a, b) for b in s] for a in t])) for s in source]
        for t in target
    ]
    expected = enumerate_best(np.array(blocks))
    matching = match(target, source)
    assert matching.score == pytest.approx(expected, abs=1e-12)
    assert match_blocks(target, source)[0] == matching.score
    t_order = {id(layer): n for n, layer in enumerate(x for block in target for x in block)}
    s_order = {id(layer): n for n, layer in enumerate(x for block in source for x in block)}
    at = [(t_order[id(m.target)], s_order[id(m.source)]) for m in matching.matches]
    assert [i for i, _ in at] == sorted({i for i, _ in at})
    block_of = {id(x): n for n, block in enumerate(source) for x in block}
    used = [block_of[id(m.source)] for m in matching.matches]
    assert used == sorted(used)
    assert all(m.score == pytest.approx(shape_score(m.target, m.source)) for m in matching.matches)


def test_matches_of_real_networks_do_not_cross() -> None:
    with torch.device("meta"):
        target = standardize(timm.create_model("mixnet_s"))
        source = standardize(timm.create_model("efficientnet_b0"))
    names = [[layer.name for block in net for layer in block] for net in (target, source)]
    matches = match(target, source).matches
    rows = [names[0].index(m.target.name) for m in matches]
    assert rows == sorted(set(rows))
    # Within one target block the source layers never go back, and neither do the source blocks.
    s_block = {layer.name: n for n, block in enumerate(source) for layer in block}
    t_block = {layer.name: n for n, block in enumerate(target) for layer in block}
    for one, two in itertools.pairwise(matches):
        assert s_block[one.source.name] <= s_block[two.source.name]
        if t_block[one.target.name] == t_block[two.target.name]:
            assert names[1].index(one.source.name) <= names[1].index(two.source.name)


def test_shape_score_by_hand() -> None:
    scores = layer_scores(
        [("conv2d", (8, 4, 3, 3)), ("linear", (10, 4)), ("parameter scale", ())],
        [("conv2d", (4, 8, 3, 5)), ("linear", (10, 4)), ("parameter scale", ())],
    )
    assert scores[0, 0] == pytest.approx(0.5 * 0.5 * 1 * 0.6)
    assert scores[1, 1] == scores[2, 2] == 1.0
    assert np.count_nonzero(scores) == 3
