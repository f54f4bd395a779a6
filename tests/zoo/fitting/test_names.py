"""Which tensors of a file are a network's: any prefix, averages beside, several networks."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from zoo_search.core.errors import UserError
from zoo_search.zoo.fitting.names import Chosen, choose


def _net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Module()
    net.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    net.blocks = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net.head = nn.Linear(4, 2)
    return net


OWN = _net().state_dict()


def _under(prefix: str, by: float = 0.0) -> dict[str, Tensor]:
    return {prefix + key: tensor + by for key, tensor in OWN.items()}


def _choose(states: dict[str, dict[str, Tensor]], state: str | None = None) -> Chosen:
    return choose(OWN, states, state, "zoo.a.weights", "w.ckpt")


def _is_own(found: dict[str, Tensor], by: float = 0.0) -> bool:
    return found.keys() == OWN.keys() and all(torch.equal(found[k], OWN[k] + by) for k in OWN)


WORDS = st.one_of(
    st.sampled_from(["model", "module", "_orig_mod", "net", "backbone", "student", "0", "stem"]),
    st.text(st.characters(blacklist_characters="./\\", codec="utf-8"), min_size=1, max_size=6),
)
PREFIXES = st.lists(WORDS, max_size=4).map(lambda words: "".join(f"{word}." for word in words))
BESIDE = st.sampled_from(["criterion.weight", "loss.ce.w", "ema_loss", "metric.0.total", "fc9"])


@settings(max_examples=60, deadline=None)
@given(PREFIXES, st.lists(BESIDE, unique=True), st.lists(WORDS, max_size=3).map(".".join))
def test_any_prefix_is_found_and_what_stands_beside_is_named(
    prefix: str, beside: list[str], path: str
) -> None:
    strangers = {name: torch.ones(3) for name in beside}
    chosen = _choose({path: {**strangers, **_under(prefix)}, "optimizer.0": {"m": torch.ones(2)}})
    assert _is_own(chosen.own(OWN))
    assert set(chosen.left_out(OWN)) == set(strangers)
    said = ".".join(part for part in (path, prefix.rstrip(".")) if part)
    assert chosen.place.words == said
    assert not prefix or any(repr(said) in note or f"'{said}'" in note for note in chosen.notes)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["_orig_mod", "_fsdp_wrapped_module"]), max_size=2),
    st.sampled_from(sorted({k.partition(".")[0] for k in OWN})),
)
def test_wrappers_inside_names_are_nobodys_own(wrappers: list[str], part: str) -> None:
    inside = "".join(f"{word}." for word in wrappers)
    file = {k.replace(f"{part}.", f"{part}.{inside}", 1): v for k, v in OWN.items()}
    assert _is_own(_choose({"": file}).own(OWN))


@pytest.mark.parametrize(
    ("averaged", "states"),
    [
        ("state_dict_ema", {"state_dict": _under(""), "state_dict_ema": _under("", 1)}),
        ("model_ema.module", {"model_ema": _under("module.", 1), "model": _under("")}),
        ("ema", {"": _under("module."), "ema": _under("", 1)}),
        (
            "state_dict.model_ema",
            {"state_dict": _under("model.") | _under("model_ema.", 1)},
        ),
    ],
)
def test_averaged_weights_are_an_option(
    averaged: str, states: dict[str, dict[str, Tensor]]
) -> None:
    plain = _choose(states)
    assert _is_own(plain.own(OWN))
    assert any(f"not its averaged weights, '{averaged}'" in note for note in plain.notes)
    assert plain.left_out(OWN) == []
    for asked in ("ema", averaged):
        chosen = _choose(states, asked)
        assert _is_own(chosen.own(OWN), by=1)
        assert chosen.notes == (f"averaged weights, '{averaged}'",)


def test_averaged_weights_alone_are_taken() -> None:
    assert _choose({"model_ema": _under("", 1)}).notes == ("averaged weights, 'model_ema'",)


def test_averages_that_are_not_there() -> None:
    with pytest.raises(UserError, match=r"zoo\.a\.state is 'ema', but w\.ckpt holds no averaged"):
        _choose({"state_dict": _under("model.")}, "ema")
    with pytest.raises(UserError, match=r"Did you mean 'teacher'\? Found: 'student', 'teacher'"):
        _choose({"": _under("student.") | _under("teacher.", 1)}, "teachr")


def test_two_networks_in_one_file_are_a_question() -> None:
    both = {"": _under("student.") | _under("teacher.", 1)}
    with pytest.raises(UserError, match=r"'student' and 'teacher'\. Say which: zoo\.a\.state: stu"):
        _choose(both)
    assert _is_own(_choose(both, "teacher").own(OWN), by=1)
    assert _is_own(_choose({"": _under("a.") | _under("b.")}).own(OWN))  # the same one, twice
    assert _is_own(_choose({"best": _under("", 1), "state_dict": _under("")}).own(OWN))


def test_what_could_be_a_part_of_a_larger_network_is_not_left_out() -> None:
    more = {**OWN, "blocks.2.weight": torch.ones(4, 4), "head2.weight": torch.ones(1)}
    kept = _choose({"": more}).own(OWN)
    assert {"blocks.2.weight", "head2.weight"} < kept.keys()
    left = _choose({"": {**OWN, "decoder.0.weight": torch.ones(1)}})
    assert _is_own(left.own(OWN))
    assert left.left_out(OWN) == ["decoder.0.weight"]


@settings(max_examples=30, deadline=None)
@given(PREFIXES, st.lists(BESIDE, unique=True))
def test_in_order_the_number_of_tensors_says_where_it_lies(prefix: str, beside: list[str]) -> None:
    other = {f"m.t{i}.{key.rpartition('.')[2]}": v for i, (key, v) in enumerate(OWN.items())}
    file = {**{prefix + key: v for key, v in other.items()}, **dict.fromkeys(beside, torch.ones(1))}
    states = {"state_dict": file, "optimizer.state.0": {"step": torch.ones(1)}}
    chosen = choose(OWN, states, None, "zoo.a.weights", "w.ckpt", in_order=True)
    assert list(chosen.tensors.values()) == list(OWN.values())
    assert set(chosen.beside) == set(beside)


def test_names_that_are_nobodys_lose_wrappers_alone() -> None:
    other = {f"module.{re.sub('[a-z]', 'x', k)}": v for k, v in OWN.items()}
    chosen = choose(OWN, {"o": {"a": torch.ones(1)}, "model": other}, None, "zoo.a.weights", "w")
    assert list(chosen.tensors) == [key.removeprefix("module.") for key in other]
