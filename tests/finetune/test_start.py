"""What FROZEN-TUNING makes of a head that starts from a closed-form fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo_search as zs
from zoo_search.data.preprocess import Preprocess
from zoo_search.networks.network import ReassembledNet
from zoo_search.training.accuracy import accuracy
from zoo_search.training.images import InMemory
from zoo_search.training.optimize import Rate, make_optimizer, rates_of
from zoo_search.training.schedules import SCHEDULES
from zoo_search.training.train import train, trainable

SIZE = 16
TRANSFORM = Preprocess(size=(SIZE, SIZE), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
SCHEDULE = SCHEDULES["few-shot"]


class SmallNet(nn.Module):
    """A plain convolutional classifier."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [(3, 16, 1), (16, 32, 2), (32, 64, 2), (64, 256, 2)]
        self.blocks = nn.Sequential(*(self.block(*size) for size in sizes))
        self.stitches = nn.ModuleList()
        self.head = nn.Linear(256, 10)

    @staticmethod
    def block(before: int, after: int, stride: int) -> nn.Module:
        conv = nn.Conv2d(before, after, 3, stride, 1)
        return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(x).mean((2, 3)))
        return out


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = torch.from_numpy(data.images).float()[:, None] * (255 / 16)
    images = F.interpolate(grey, size=(SIZE, SIZE)).round().to(torch.uint8)
    return images.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(data.target).long()


@pytest.fixture(scope="module")
def zoo(digits: tuple[Tensor, Tensor]) -> dict[str, zs.LineGraph]:
    """A network that has learned the digits below five, from images that nothing else uses."""
    images, labels = (part[:700] for part in digits)
    low = labels < 5
    torch.manual_seed(0)
    net = SmallNet()
    schedule = replace(SCHEDULE, epochs_full=4, batch_size=32, step_limit_full=None)
    train(
        net, InMemory(images[low], labels[low]), num_classes=10, transform=TRANSFORM,
        protocol="full", schedule=schedule,
    )  # fmt: skip
    return {"net": zs.trace(net.eval(), input_size=(3, SIZE, SIZE))}


def whole(zoo: dict[str, zs.LineGraph], data: tuple[Tensor, Tensor]) -> ReassembledNet:
    recipe = {"blocks": [{"model": "net", "start": 0, "stop": len(zoo["net"])}], "head": "target"}
    images, labels = data
    return zs.assemble(recipe, zoo, images=images, labels=labels)


def test_frozen_tuning_does_not_damage_a_whole_model(
    zoo: dict[str, zs.LineGraph], digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    few, unseen = (images[700:900], labels[700:900]), (images[1000:], labels[1000:])
    before = accuracy(whole(zoo, few), InMemory(*unseen), TRANSFORM)
    assert before > 0.8
    after = []
    for seed in range(3):
        net = whole(zoo, few)
        train(
            net, InMemory(*few), num_classes=10, transform=TRANSFORM, schedule=SCHEDULE,
            protocol="frozen", seed=seed,
        )  # fmt: skip
        after.append(accuracy(net, InMemory(*unseen), TRANSFORM))
    assert sum(after) / len(after) > before - 0.01


@pytest.mark.parametrize("first", [500, 600, 700, 750, 800])
def test_a_fitted_head_gives_logits(
    zoo: dict[str, zs.LineGraph], digits: tuple[Tensor, Tensor], first: int
) -> None:
    """No scale below a half or above two gives unseen images better probabilities."""
    images, labels = digits
    net = whole(zoo, (images[first : first + 200], labels[first : first + 200]))
    with torch.no_grad():
        logits = net(TRANSFORM.normalize(images[1000:]))
    scales = (1 / 3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
    loss = {s: F.cross_entropy(s * logits, labels[1000:]).item() for s in scales}
    assert 0.5 <= min(loss, key=loss.__getitem__) <= 2.0
    assert loss[1.0] < 0.6


def test_separable_held_out_images_give_a_finite_scale(
    zoo: dict[str, zs.LineGraph], digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    easy = (labels < 2).nonzero().flatten()[-40:]
    net = whole(zoo, (images[easy], labels[easy]))
    with torch.no_grad():
        logits = net(TRANSFORM.normalize(images[easy]))
    assert torch.equal(logits.argmax(1), labels[easy])
    assert logits.abs().max() < 30


def test_no_fitted_weight_moves_by_more_than_a_hundredth_of_its_size_in_a_step(
    zoo: dict[str, zs.LineGraph], digits: tuple[Tensor, Tensor]
) -> None:
    """Ten times as much, and two of 28 reassemblies of the demo's zoo end below 50 %."""
    net = whole(zoo, (digits[0][700:900], digits[1][700:900]))
    before = net.head.weight.detach().clone()
    size = float(before.square().mean().sqrt())
    rates = rates_of(net, trainable(net, "frozen"), "frozen", SCHEDULE)
    optimizer = make_optimizer(net, rates, "frozen", SCHEDULE)
    found = [g["lr"] for g in optimizer.param_groups for p in g["params"] if p is net.head.weight]
    assert found == [pytest.approx(0.01 * size)]
    Rate(optimizer, 1000, SCHEDULE.warmup).set(100)
    F.cross_entropy(net(torch.rand(16, 3, SIZE, SIZE)), torch.arange(16) % 10).backward()
    optimizer.step()
    moved = (net.head.weight.detach() - before).abs().max()
    assert 0 < float(moved) < 0.0101 * size + 1e-3 * float(before.abs().max())
