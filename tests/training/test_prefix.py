"""FROZEN-TUNING on features that were computed once is FROZEN-TUNING."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_net import TRANSFORM, digits, make_net

from zoo_search.training.machine import HERE
from zoo_search.training.prefix import features_of, frozen_blocks
from zoo_search.training.schedules import SCHEDULES
from zoo_search.training.train import train

SCHEDULE = replace(SCHEDULES["few-shot"], epochs_frozen=3, augment_frozen="none")


def test_blocks_that_neighbour_each_other_are_one_prefix() -> None:
    net = make_net()
    assert frozen_blocks(net) == 2
    net.stitches[1] = torch.nn.Identity()
    assert frozen_blocks(net) == 3
    net.stitches[0] = torch.nn.Conv2d(8, 8, 1)
    assert frozen_blocks(net) == 1


def test_features_are_those_of_the_network() -> None:
    net, images = make_net().eval(), digits(150)
    found = features_of(net, 2, images, TRANSFORM.normalize, HERE)
    assert found is not None
    with torch.no_grad():
        expected = net.before(TRANSFORM.normalize(images.images), 2)
    assert torch.allclose(found.images, expected, atol=1e-5)
    assert torch.equal(found.labels, images.labels)
    few = replace(HERE, cache_bytes=expected.nbytes - 1)
    assert features_of(net, 2, images, TRANSFORM.normalize, few) is None


def test_the_curve_is_the_same_and_the_blocks_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    curves, states, calls = [], [], []
    for cache in (0, 2**30):
        net = make_net(drop=0.1)
        seen = list[int]()
        net.blocks[0].register_forward_hook(lambda m, x, y, seen=seen: seen.append(len(y)))
        result = train(
            net, digits(), num_classes=10, transform=TRANSFORM, schedule=SCHEDULE,
            protocol="frozen", machine=replace(HERE, cache_bytes=cache),
        )  # fmt: skip
        curves.append([point.train_loss for point in result.curve])
        states.append(net.state_dict())
        calls.append(sum(seen))
        assert all(p.requires_grad for p in net.parameters())
    assert calls[0] == 3 * 200 + min(64, 200)  # every epoch, and the look at the first features
    assert calls[1] == 200
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    for key, value in states[0].items():
        assert torch.allclose(value, states[1][key], atol=1e-4), key


@pytest.mark.parametrize("change", [{"augment_frozen": "light"}, {"mixup": 0.8}])
def test_images_that_change_are_computed_anew(change: dict[str, object]) -> None:
    net, seen = make_net(), list[int]()
    net.blocks[0].register_forward_hook(lambda m, x, y: seen.append(len(y)))
    schedule = replace(SCHEDULE, **change)  # type: ignore[arg-type]
    train(net, digits(), num_classes=10, transform=TRANSFORM, schedule=schedule, protocol="frozen")
    assert sum(seen) >= 3 * 180
