"""Proxies with one plausible fault each."""

from __future__ import annotations

import threading
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_search.networks import ReassembledNet
from zoo_search.reassembly.proxies import Batches, Proxy, proxy_traits
from zoo_search.testing.proxies import ProxyContract


def spread(net: ReassembledNet, batches: Batches) -> float:
    """A proxy that is sound: the spread of the logits."""
    found = [float(_logits(net, batches, batch).std()) for batch in batches]
    return sum(found) / len(found)


@torch.no_grad()
def _logits(net: ReassembledNet, batches: Batches, batch: int) -> Tensor:
    logits: Tensor = net(batches.for_net(net, batches.indices(batch)))
    return logits


class Broken(ProxyContract):
    must_fail: ClassVar[set[str]] = set()
    call: ClassVar[Proxy]

    @pytest.fixture
    def proxy(self) -> Proxy:
        return type(self).__dict__["call"].__func__


class TestSound(Broken):
    call = staticmethod(spread)


class TestTensor(Broken):
    must_fail: ClassVar = {"test_a_score_is_a_finite_float"}

    @staticmethod
    def call(net, batches):
        return _logits(net, batches, 0).std()


class TestNan(Broken):
    must_fail: ClassVar = {"test_a_score_is_a_finite_float"}

    @staticmethod
    def call(net, batches):
        logits = _logits(net, batches, 0).relu()
        return float((logits / logits).mean())


class TestGradientsStay(Broken):
    must_fail: ClassVar = {"test_the_network_is_left_as_it_was"}

    @staticmethod
    def call(net, batches):
        chosen = batches.indices(0)
        net.requires_grad_(True)
        with torch.enable_grad():
            loss = F.cross_entropy(net(batches.for_net(net, chosen)), batches.labels_of(chosen))
            loss.backward()
        return sum(float(p.grad.norm()) for p in net.parameters() if p.grad is not None)


class TestHookStays(Broken):
    must_fail: ClassVar = {"test_the_network_is_left_as_it_was"}

    @staticmethod
    def call(net, batches):
        net.head.register_forward_hook(lambda *_: None)
        return spread(net, batches)


class TestTrainingMode(Broken):
    must_fail: ClassVar = {"test_the_network_is_left_as_it_was"}

    @staticmethod
    def call(net, batches):
        net.train()
        return spread(net, batches)


class TestSignsAreLost(Broken):
    """SynFlow without a copy: the weights that other candidates share lose their signs."""

    must_fail: ClassVar = {
        "test_the_network_is_left_as_it_was",
        "test_no_candidate_changes_the_score_of_another",
    }

    @staticmethod
    @torch.no_grad()
    def call(net, batches):
        found = spread(net, batches)
        for parameter in net.parameters():
            parameter.abs_()
        return found


class TestGlobalNoise(Broken):
    must_fail: ClassVar = {
        "test_the_process_is_left_as_it_was",
        "test_the_same_seed_gives_the_same_score",
    }

    @staticmethod
    def call(net, batches):
        noise = torch.randn(8, *net.input_size)
        with torch.no_grad():
            return float(net(noise).std()) + spread(net, batches)


class TestWrongKey(Broken):
    """A cache whose key says too little of the network."""

    must_fail: ClassVar = {"test_no_candidate_changes_the_score_of_another"}

    @staticmethod
    def call(net, batches):
        def compute() -> tuple[Tensor]:
            return (_logits(net, batches, 0),)

        if batches.cache is None:
            return float(compute()[0].std())
        return float(batches.cache.get(("logits", net.recipe.blocks[0].model), compute)[0].std())


class TestTrainableAlone(Broken):
    must_fail: ClassVar = {"test_frozen_weights_and_gradient_mode_change_nothing"}

    @staticmethod
    def call(net, batches):
        trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
        return trained + spread(net, batches)


class TestVeryLow(Broken):
    """NaN turned into a very low score."""

    must_fail: ClassVar = {"test_a_broken_network_has_no_score"}

    @staticmethod
    def call(net, batches):
        found = spread(net, batches)
        return found if found == found else -1e9


class TestOtherError(Broken):
    must_fail: ClassVar = {"test_without_labels_there_is_the_same_score_or_an_error"}

    @staticmethod
    def call(net, batches):
        return spread(net, batches) + float(batches.labels[batches.indices(0)].sum())


class TestLabelsAtPleasure(Broken):
    must_fail: ClassVar = {"test_without_labels_there_is_the_same_score_or_an_error"}

    @staticmethod
    def call(net, batches):
        return spread(net, batches) + (batches.labels is None)


class TestSaysNone(Broken):
    must_fail: ClassVar = {"test_it_looks_at_what_it_says"}

    @staticmethod
    @proxy_traits("logits", images="none")
    def call(net, batches):
        return spread(net, batches)


class TestStaysHere(Broken):
    must_fail: ClassVar = {"test_it_travels_to_a_worker"}

    @pytest.fixture
    def proxy(self) -> Proxy:
        lock = threading.Lock()

        def call(net: ReassembledNet, batches: Batches) -> float:
            with lock:
                return spread(net, batches)

        return call
