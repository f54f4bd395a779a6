"""The operators of the ablation (appendix B.8), and what all of them have in common."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import filled, networks, same, shape_score
from torch import nn

from zoo_search import dpiat
from zoo_search.core.errors import UserError
from zoo_search.dpiat import alignment
from zoo_search.dpiat.bipartite import match_bipartite, match_blocks_bipartite, match_random
from zoo_search.dpiat.matching import match
from zoo_search.dpiat.operators import OPERATORS, centre_crops
from zoo_search.dpiat.standardize import Block, standardize
from zoo_search.dpiat.transfer import MATCHINGS


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


every = [("dp", o) for o in OPERATORS] + [(m, "clip") for m in MATCHINGS if m != "dp"]


@pytest.mark.parametrize(("matching", "operator"), every)
def test_twice_is_once_and_the_source_stays(matching: str, operator: str) -> None:
    source = filled(timm.create_model("mobilenetv3_small_050"), 1)
    target = filled(timm.create_model("lcnet_035"), 2)
    before = state(source)
    report = dpiat.transfer(source, target, matching=matching, operator=operator, seed=3)
    once = state(target)
    assert (report.matching, report.operator) == (matching, operator)
    assert all(torch.isfinite(tensor).all() for tensor in once.values())
    assert dpiat.transfer(source, target, matching, operator, seed=3) == report
    assert same(state(target), once)
    assert same(state(source), before)


@pytest.mark.parametrize("matching", ["dp", "bipartite", "nbipartite"])
@pytest.mark.parametrize("operator", list(OPERATORS))
def test_the_same_architecture_gets_the_same_weights(matching: str, operator: str) -> None:
    """Every matching but the random one pairs layers of equal shape, for every operator alike."""
    source, target = (filled(timm.create_model("lcnet_035"), seed) for seed in (1, 2))
    report = dpiat.transfer(source, target, matching, operator)
    assert report.coverage == 1
    assert report.score == pytest.approx(len(report.layers))
    if matching == "dp":
        assert same(state(target), state(source))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"matching": "bipartit"}, "Did you mean 'bipartite'"),
        ({"operator": "clipnorm"}, "Did you mean 'clip_norm'"),
        ({"operator": "dp"}, "no transfer operator 'dp'"),
    ],
)
def test_unknown_names(options: dict[str, str], words: str) -> None:
    source, target = nn.Linear(3, 3), nn.Linear(4, 4)
    before = state(target)
    with pytest.raises(UserError, match=words) as error:
        dpiat.transfer(source, target, **options)
    assert "nbipartite" in str(error.value) or "magnitude" in str(error.value)
    assert same(state(target), before)


def best_assignment(values: list[list[float]]) -> float:
    """The largest sum over one-to-one assignments, by trying all of them."""
    n, m = len(values), len(values[0])
    if n > m:
        return best_assignment([list(row) for row in zip(*values, strict=True)])
    return max(
        sum(values[i][j] for i, j in enumerate(p)) for p in itertools.permutations(range(m), n)
    )


@settings(max_examples=60, deadline=None)
@given(networks(), networks())
def test_bipartite_matchings_are_the_best_assignments(t: list[Block], s: list[Block]) -> None:
    inner = [[best_assignment([[shape_score(x, y) for y in b] for x in a]) for b in s] for a in t]
    assert match_blocks_bipartite(t, s).score == pytest.approx(best_assignment(inner))
    t_of = {id(x): i for i, block in enumerate(t) for x in block}
    s_of = {id(x): j for j, block in enumerate(s) for x in block}
    dp, bipartite = match(t, s), match_bipartite(t, s)

    def blocks(matching: dpiat.matching.Matching) -> set[tuple[int, int]]:
        return {(t_of[id(m.target)], s_of[id(m.source)]) for m in matching.matches}

    assert blocks(bipartite) == blocks(dp)
    assert bipartite.score == pytest.approx(sum(inner[i][j] for i, j in blocks(dp)))
    for matching in (bipartite, match_blocks_bipartite(t, s)):
        targets = [id(m.target) for m in matching.matches]
        assert len(set(targets)) == len(targets)


def test_random_matching_follows_its_seed_and_the_types() -> None:
    with torch.device("meta"):
        t, s = (standardize(timm.create_model(arch)) for arch in ("lcnet_050", "resnet18"))
    one, again, other = (match_random(t, s, seed) for seed in (1, 1, 2))
    names = [[m.source.name for m in matching.matches] for matching in (one, again, other)]
    assert names[0] == names[1] != names[2]
    assert all(m.target.kind == m.source.kind for m in one.matches)
    assert all(m.score == pytest.approx(shape_score(m.target, m.source)) for m in one.matches)


def test_clip_norm_keeps_the_variance_of_the_outputs() -> None:
    torch.manual_seed(0)
    source, target = nn.Conv2d(64, 8, 3, bias=False), nn.Conv2d(24, 8, 3, bias=False)
    outputs = {}
    for operator in ("clip", "clip_norm"):
        dpiat.transfer(source, target, operator=operator)
        with torch.no_grad():
            outputs[operator] = target(torch.randn(64, 24, 9, 9)).var().item()
    with torch.no_grad():
        expected = source(torch.randn(64, 64, 9, 9)).var().item()
    assert outputs["clip_norm"] == pytest.approx(expected, rel=0.1)
    assert outputs["clip"] < 0.6 * expected


def test_full_repeats_the_source_around_its_centre() -> None:
    source, target = nn.Linear(2, 2), nn.Linear(5, 3)
    with torch.no_grad():
        source.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        source.bias.copy_(torch.tensor([5.0, 6.0]))
    report = dpiat.transfer(source, target, operator="full")
    # The centre crops start at output 0 (of 3) and input 1 (of 5).
    expected = [[2.0, 1.0, 2.0, 1.0, 2.0], [4.0, 3.0, 4.0, 3.0, 4.0], [2.0, 1.0, 2.0, 1.0, 2.0]]
    assert target.weight.tolist() == expected
    assert target.bias.tolist() == [5.0, 6.0, 5.0]
    assert report.coverage == 1


def test_magnitude_keeps_the_strongest_channels_through_the_network() -> None:
    def net(width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(3, width, 3), nn.BatchNorm2d(width),
            nn.Conv2d(width, width, 3, groups=width), nn.Conv2d(width, 4, 1),
        )  # fmt: skip

    source, target = filled(net(6), 1), filled(net(3), 2)
    with torch.no_grad():
        source[0].weight[[0, 3, 5]] += 10
    dpiat.transfer(source, target, operator="magnitude")
    kept = [0, 3, 5]
    assert torch.equal(target[0].weight, source[0].weight[kept])
    assert torch.equal(target[0].bias, source[0].bias[kept])
    assert torch.equal(target[1].running_var, source[1].running_var[kept])
    assert torch.equal(target[2].weight, source[2].weight[kept])
    assert torch.equal(target[3].weight, source[3].weight[:, kept])
    assert torch.equal(target[3].bias, source[3].bias)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_long_sequences_go_the_same_way(n: int, m: int, seed: int) -> None:
    """The path for sequences that do not fit a batch gives the same scores and pairs."""
    generator = np.random.default_rng(seed)
    scores = generator.choice([0.0, 0.5, 1.0, 0.3], size=(n, m))
    expected = alignment.align(scores)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "_CHUNK", 0)
        got = alignment.align(scores)
    assert got[0] == pytest.approx(expected[0], abs=1e-12)
    assert sorted(set(got[1])) == got[1]
    gains: dict[int, list[float]] = {}
    for i, j in got[1]:
        gains.setdefault(j, []).append(scores[i, j])
    value = sum(sum(group) / math.sqrt(len(group)) for group in gains.values())
    assert value == pytest.approx(expected[0], abs=1e-12)


def test_what_was_left_says_why() -> None:
    source = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4))
    target = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Conv2d(1, 1, 1))
    report = dpiat.transfer(source, target)
    assert [(x.name, x.kind) for x in report.untouched] == [("1", "layer_norm"), ("2", "conv2d")]
    assert all("no layer of this type" in x.reason for x in report.untouched)
    assert report.layers[0].target_shape == report.layers[0].source_shape == (4, 3)
    rows = report.rows()
    assert [row["target"] for row in rows] == ["0", "1", "2"]
    assert len({tuple(row) for row in rows}) == 1  # the same columns


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([torch.float64, torch.float16, torch.bfloat16]), st.integers(1, 5))
def test_values_are_cast_to_the_target(dtype: torch.dtype, width: int) -> None:
    source, target = nn.Linear(3, width), nn.Linear(3, 5).to(dtype)
    dpiat.transfer(source, target)
    start = (5 - width) // 2
    assert target.weight.dtype == dtype
    assert torch.equal(target.weight[start : start + width], source.weight.to(dtype))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=0, max_size=3))
def test_crops_are_those_of_the_appendix(sizes: list[tuple[int, int]]) -> None:
    """Appendix A.2, one index at a time, counted from 1 as there."""

    def g(j: int, x: int, y: int) -> int:
        return j + (x - y) // 2 if x > y else j

    t_shape, s_shape = [t for t, _ in sizes], [s for _, s in sizes]
    source = torch.rand(s_shape)
    expected, got = torch.zeros(t_shape), torch.zeros(t_shape)
    for index in itertools.product(*(range(1, min(t, s) + 1) for t, s in sizes)):
        into = tuple(g(j, t, s) - 1 for j, (t, s) in zip(index, sizes, strict=True))
        out_of = tuple(g(j, s, t) - 1 for j, (t, s) in zip(index, sizes, strict=True))
        expected[into] = source[out_of]
    into_crop, out_of_crop = centre_crops(t_shape, s_shape)
    got[into_crop] = source[out_of_crop]
    assert torch.equal(got, expected)
