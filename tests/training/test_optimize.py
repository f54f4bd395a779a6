"""How fast each parameter may learn at most."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_net import make_net
from torch import nn

from zoo_search.training.optimize import rates_of
from zoo_search.training.schedules import SCHEDULES, Protocol
from zoo_search.training.train import trainable

SCHEDULE = replace(SCHEDULES["few-shot"], block_lr=0.5)
assert SCHEDULE.step_limit == SCHEDULE.step_limit_full == 0.01


def rates(net: nn.Module, protocol: Protocol, schedule=SCHEDULE) -> dict[str, float]:
    found = rates_of(net, trainable(net, protocol), protocol, schedule)
    names = [name for name, p in net.named_parameters() if p.requires_grad]
    return dict(zip(names, found.tolist(), strict=True))


def hundredth(net: nn.Module, name: str) -> float:
    """Return a hundredth of the root mean square of a parameter, in float64."""
    values = net.get_parameter(name).detach().double()
    return 0.01 * float((values**2).mean() ** 0.5)


def test_in_frozen_tuning_all_weights_move_by_shares_of_their_size() -> None:
    net = make_net()
    found = rates(net, "frozen")
    assert set(found) == {"stitches.1.weight", "stitches.1.bias", "head.weight", "head.bias"}
    for part in ("stitches.1", "head"):
        assert found[f"{part}.weight"] == pytest.approx(hundredth(net, f"{part}.weight"))
        assert found[f"{part}.weight"] < found[f"{part}.bias"] == SCHEDULE.lr_frozen


@pytest.mark.parametrize("norm", [True, False])
def test_in_full_tuning_batch_norms_set_their_blocks_free(norm: bool) -> None:
    net = make_net(norm)
    found = rates(net, "full")
    assert set(found) == {name for name, _ in net.named_parameters()}
    for name, rate in found.items():
        new = name.startswith(("stitches", "head"))
        peak = SCHEDULE.lr_full * (1 if new else 0.5)
        limited = net.get_parameter(name).ndim > 1 and (new or not norm)
        assert rate == pytest.approx(min(peak, hundredth(net, name)) if limited else peak)
    assert (found["blocks.1.0.weight"] < 0.5 * SCHEDULE.lr_full) is not norm


def test_without_limits_all_learn_alike() -> None:
    schedule = replace(SCHEDULE, step_limit=None, step_limit_full=None, block_lr=1.0)
    for protocol in ("frozen", "full"):
        assert set(rates(make_net(), protocol, schedule).values()) == {schedule.lr(protocol)}
