"""Init hooks with one plausible fault each."""

from __future__ import annotations

import itertools
import threading
from typing import ClassVar

import numpy as np
import pytest
import torch

from zoo_search.hooks import Filled, Init, hook_traits
from zoo_search.testing.hooks import HookContract


@hook_traits(options=())
def sound(module, context):
    """A hook that is sound: small seeded numbers."""
    with torch.no_grad():
        for piece in context.pieces:
            for parameter in piece.module.parameters():
                parameter.normal_(std=0.02)
    return {"pieces": len(context.pieces)}


class Broken(HookContract):
    must_fail: ClassVar[set[str]] = set()

    @pytest.fixture
    def init(self) -> Init:
        return type(self).__dict__["hook_of_theirs"].__func__


class TestSound(Broken):
    hook_of_theirs = staticmethod(sound)


class TestInfinite(Broken):
    must_fail: ClassVar = {"test_values_are_finite_and_keep_their_form"}

    @staticmethod
    def hook_of_theirs(module, context):
        for tensor in context.fresh.values():
            tensor.div_(0)


class TestHalfPrecision(Broken):
    must_fail: ClassVar = {"test_values_are_finite_and_keep_their_form"}

    @staticmethod
    def hook_of_theirs(module, context):
        for piece in context.pieces:
            piece.module.half()


class TestIdle(Broken):
    must_fail: ClassVar = {"test_it_fills_something"}

    @staticmethod
    def hook_of_theirs(module, context):
        return {"filled": True}


class TestEverything(Broken):
    """The whole network instead of its pieces."""

    must_fail: ClassVar = {"test_nothing_but_the_pieces_is_changed"}

    @staticmethod
    def hook_of_theirs(module, context):
        for parameter in module.parameters():
            parameter.data.mul_(0.5)


class TestFreezes(Broken):
    must_fail: ClassVar = {"test_nothing_but_the_pieces_is_changed"}

    @staticmethod
    def hook_of_theirs(module, context):
        module.requires_grad_(False)
        return sound(module, context)


class TestNumpysRandom(Broken):
    must_fail: ClassVar = {
        "test_the_same_seed_gives_the_same_values",
        "test_the_process_is_left_as_it_was",
    }

    @staticmethod
    def hook_of_theirs(module, context):
        for tensor in context.fresh.values():
            tensor.copy_(torch.from_numpy(np.asarray(np.random.rand(*tensor.shape))))


class TestCounts(Broken):
    """The first network is the one that all others start from."""

    must_fail: ClassVar = {"test_no_network_changes_the_start_of_another"}
    calls = itertools.count(1)

    @staticmethod
    def hook_of_theirs(module, context):
        number = next(TestCounts.calls)
        for tensor in context.fresh.values():
            tensor.fill_(1 / number)


class TestTellsTensors(Broken):
    must_fail: ClassVar = {"test_its_report_is_plain_and_true"}

    @staticmethod
    def hook_of_theirs(module, context):
        sound(module, context)
        return Filled({"norm": torch.ones(1)})


class TestNeedsAPiece(Broken):
    must_fail: ClassVar = {"test_a_network_without_pieces_is_left_alone"}

    @staticmethod
    def hook_of_theirs(module, context):
        context.pieces[0].module.get_parameter("weight")


class TestShrinks(Broken):
    must_fail: ClassVar = {"test_a_second_call_finds_nothing_left"}

    @staticmethod
    def hook_of_theirs(module, context):
        for piece in context.pieces:
            for parameter in piece.module.parameters():
                parameter.mul_(0.5)


class TestTakesAnything(Broken):
    must_fail: ClassVar = {"test_options_are_checked"}

    @staticmethod
    def hook_of_theirs(module, context):
        return sound(module, context)


class TestStaysHere(Broken):
    must_fail: ClassVar = {"test_it_travels_to_a_worker"}

    @pytest.fixture
    def init(self) -> Init:
        lock = threading.Lock()

        def here(module, context):
            with lock:
                return sound(module, context)

        return here
