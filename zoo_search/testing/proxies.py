"""What every proxy keeps to: a training-free score of a network on target images."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from zoo_search.core.identity import seeded
from zoo_search.networks import ReassembledNet, assemble
from zoo_search.networks.cache import TensorCache
from zoo_search.networks.parents import Parent
from zoo_search.reassembly.proxies import Batches, Proxy, score, traits_of
from zoo_search.testing.small import (
    CLASSES,
    RECIPES,
    differences,
    nothing_else_touched,
    small_zoo,
    smooth_images,
    state_of,
    travelled,
)


@dataclass(eq=False)
class Bench:
    """Networks to score and images to score them on."""

    images: Tensor
    """uint8 ``[N, 3, H, W]``."""
    labels: Tensor
    """``[N]`` in ``range(3)``."""
    zoo: Mapping[str, Parent] = field(default_factory=lambda: small_zoo("conv", "vit"))

    def net(self, recipe: str, *, shared: bool = False) -> ReassembledNet:
        """Return the network of a recipe among :data:`~.small.RECIPES`, in eval mode.

        Shared: on the zoo's own blocks, as the search does; else on copies.
        """
        return assemble(
            RECIPES[recipe], self.zoo, "random", num_classes=CLASSES, copy_blocks=not shared
        )

    def batches(self, seed: int = 0, *, labelled: bool = True, cached: bool = False) -> Batches:
        """Return two batches of eight images."""
        return Batches(
            self.images,
            self.labels if labelled else None,
            number=2,
            size=8,
            seed=seed,
            cache=TensorCache(2**26) if cached else None,
            zoo=self.zoo,
        )


class ProxyContract:
    """Derive from this, give the fixture ``proxy``, and run pytest."""

    reads_weights: ClassVar[bool] = True
    """Whether NaN among the weights has to show. False for what is known of a network without
    running it, such as its size."""
    unscored: ClassVar[Collection[str]] = ()
    """Those of :data:`~.small.RECIPES` that have no score by what the proxy is defined on; there it
    has to raise a ``ValueError``."""

    @pytest.fixture
    def proxy(self) -> Proxy:
        """The proxy under test."""
        raise NotImplementedError("give the fixture 'proxy'")

    @pytest.fixture
    def images(self) -> Tensor:
        """Different images, uint8 ``[N, 3, 32, 32]``, at least 16; here: smooth random pictures."""
        return smooth_images(24)

    @pytest.fixture
    def labels(self, images: Tensor) -> Tensor:
        """Classes of the images, 0, 1 or 2."""
        return torch.arange(len(images)) % CLASSES

    @pytest.fixture
    def bench(self, images: Tensor, labels: Tensor) -> Bench:
        """Networks and images of this test alone."""
        return Bench(images, labels)

    @pytest.mark.parametrize("recipe", RECIPES)
    def test_a_score_is_a_finite_float(self, proxy: Proxy, bench: Bench, recipe: str) -> None:
        """Of a convolutional network, of a ViT, and of both ways to stitch them."""
        if recipe in self.unscored:
            with pytest.raises(ValueError, match=r"\w"):
                proxy(bench.net(recipe), bench.batches())
            return
        value = proxy(bench.net(recipe), bench.batches())
        assert isinstance(value, float), f"a {type(value).__name__}"
        assert torch.tensor(value).isfinite(), value

    @pytest.mark.parametrize("recipe", ["conv into vit", "vit into conv"])
    def test_the_network_is_left_as_it_was(self, proxy: Proxy, bench: Bench, recipe: str) -> None:
        """Tensors and their gradients, modes and forward hooks, frozen or not."""
        net, pixels = bench.net(recipe), bench.images.clone()
        parameters = list(net.parameters())
        for parameter in parameters[::2]:
            parameter.requires_grad_(False)
        for parameter in parameters[1::4]:
            parameter.grad = torch.full_like(parameter, 0.5)
        before = state_of(net)
        proxy(net, bench.batches())
        assert not differences(before, state_of(net))
        assert torch.equal(bench.images, pixels)

    def test_the_process_is_left_as_it_was(self, proxy: Proxy, bench: Bench) -> None:
        """Random states, gradient mode, default type."""
        net, batches = bench.net("conv into vit"), bench.batches()
        with nothing_else_touched():
            proxy(net, batches)

    def test_the_same_seed_gives_the_same_score(self, proxy: Proxy, bench: Bench) -> None:
        """In another process, too: whatever was drawn before counts for nothing."""
        found = set()
        for drawn in range(3):
            other = Bench(bench.images, bench.labels)
            with seeded("a process of its own", drawn):
                found.add(proxy(other.net("conv into vit"), other.batches()))
        assert len(found) == 1

    def test_no_candidate_changes_the_score_of_another(self, proxy: Proxy, bench: Bench) -> None:
        """Candidates share blocks, batches and what is cached of a prefix; in any order."""
        names = [name for name in RECIPES if name not in self.unscored]
        alone = {name: score(bench.net(name), proxy, bench.batches()) for name in reversed(names)}
        own = Bench(bench.images, bench.labels, small_zoo("conv", "vit", copied=True))
        batches = own.batches(cached=True)
        for name in (*names, *names):
            found = score(own.net(name, shared=True), proxy, batches)
            assert found == pytest.approx(alone[name], rel=1e-9), name

    def test_frozen_weights_and_gradient_mode_change_nothing(
        self, proxy: Proxy, bench: Bench
    ) -> None:
        """A score counts every parameter, whatever may be trained."""
        net, batches = bench.net("conv into vit"), bench.batches()
        expected = proxy(net, batches)
        net.requires_grad_(False)
        with torch.no_grad():
            assert proxy(net, batches) == expected

    @pytest.mark.parametrize("place", ["first", "head"])
    def test_a_broken_network_has_no_score(self, proxy: Proxy, bench: Bench, place: str) -> None:
        """NaN among the weights is an error, and neither NaN nor a low score.

        In the head it may stay unseen by what reads features alone.
        """
        if not self.reads_weights:
            pytest.skip("it does not run the network")
        net, batches = bench.net("conv into vit"), bench.batches()
        expected = score(net, proxy, batches)
        broken: nn.Module = net.blocks[0] if place == "first" else net.head
        with torch.no_grad():
            next(broken.parameters()).fill_(torch.nan)
        value = _score_or_none(net, proxy, batches)
        assert value is None or (place == "head" and value == expected), f"a score of {value}"

    def test_without_labels_there_is_the_same_score_or_an_error(
        self, proxy: Proxy, bench: Bench
    ) -> None:
        """What needs labels says so by one of the errors that the search understands."""
        net = bench.net("conv into vit")
        value = _score_or_none(net, proxy, bench.batches(labelled=False))
        assert value in (None, score(net, proxy, bench.batches()))

    def test_it_looks_at_what_it_says(self, proxy: Proxy, bench: Bench) -> None:
        """Its traits are kept with every score: ``batches`` of a seed, ``all`` images, ``none``."""
        net, seen = bench.net("conv into vit"), traits_of(proxy).images
        expected = score(net, proxy, bench.batches())
        reseeded = score(net, proxy, bench.batches(seed=1))
        assert (reseeded != expected) == (seen == "batches")
        others = Bench(bench.images.flip(0)[2:], bench.labels, bench.zoo)
        others.labels = bench.labels.flip(0)[2:]
        assert (score(net, proxy, others.batches()) != expected) == (seen != "none")

    def test_it_travels_to_a_worker(self, proxy: Proxy, bench: Bench) -> None:
        """By value, as Ray sends it."""
        net, batches = bench.net("conv into vit"), bench.batches()
        assert score(net, travelled(proxy), batches) == score(net, proxy, batches)


def _score_or_none(net: ReassembledNet, proxy: Proxy, batches: Batches) -> float | None:
    """Return a score; None for an error that the search takes for "no score"."""
    try:
        return score(net, proxy, batches)
    except (ValueError, RuntimeError):
        return None
