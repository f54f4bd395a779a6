"""A network that is fitted in eval mode and trained in training mode does the same in both."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo_search as zs
from zoo_search.data.preprocess import Preprocess
from zoo_search.networks import BlockRef, Recipe, renewal
from zoo_search.networks.network import ReassembledNet
from zoo_search.networks.renewal import renew
from zoo_search.training.augment import Augmentation
from zoo_search.training.images import InMemory
from zoo_search.training.machine import HERE
from zoo_search.training.schedules import SCHEDULES
from zoo_search.training.train import DivergedError, train

SIZE = 16
TRANSFORM = Preprocess(size=(SIZE, SIZE), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
AS_THEY_ARE = replace(SCHEDULES["few-shot"], augment="none")
PLAIN = Augmentation(10, TRANSFORM, AS_THEY_ARE, "full")
MIXED = Recipe((BlockRef("dark", 0, 2), BlockRef("light", 2, 4)))


def conv_net(classes: int) -> nn.Sequential:
    """A convolutional classifier whose four blocks hold a batch norm each."""
    sizes = [(3, 16, 1), (16, 32, 2), (32, 48, 2), (48, 64, 2)]
    blocks = [
        nn.Sequential(nn.Conv2d(a, b, 3, s, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
        for a, b, s in sizes
    ]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


@pytest.fixture(scope="module")
def digits() -> InMemory:
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = torch.from_numpy(data.images).float()[:, None] * (255 / 16)
    images = F.interpolate(grey, size=(SIZE, SIZE)).round().to(torch.uint8)
    return InMemory(images.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(data.target).long())


@pytest.fixture(scope="module")
def zoo(digits: InMemory) -> dict[str, zs.LineGraph]:
    """Two networks that were trained on other pictures than the target's: darker, and negative."""
    found = {}
    for name, pictures in {"dark": digits.images // 4, "light": 255 - digits.images}.items():
        torch.manual_seed(len(name))
        net = conv_net(10)
        train(
            net, InMemory(pictures[:700], digits.labels[:700]), num_classes=10,
            transform=TRANSFORM, protocol="full",
            schedule=replace(AS_THEY_ARE, epochs_full=4, batch_size=32, step_limit_full=None),
        )  # fmt: skip
        found[name] = zs.trace(net.eval(), input_size=(3, SIZE, SIZE))
    return found


@pytest.fixture
def target(digits: InMemory) -> InMemory:
    return InMemory(digits.images[700:900], digits.labels[700:900])


@pytest.fixture
def net(zoo: dict[str, zs.LineGraph], target: InMemory) -> ReassembledNet:
    return zs.assemble(MIXED, zoo, images=target.images, labels=target.labels)


def losses(net: ReassembledNet, images: InMemory) -> tuple[float, float]:
    """Return the loss in eval mode, and the mean over steps of 16 images in training mode."""
    x, kept = TRANSFORM.normalize(images.images), copy.deepcopy(net.state_dict())
    with torch.no_grad():
        fitted = F.cross_entropy(net.eval()(x), images.labels)
        parts = zip(x.split(16), images.labels.split(16), strict=True)
        net.train()
        trained = torch.stack([F.cross_entropy(net(a), b) for a, b in parts]).mean()
    net.load_state_dict(kept)
    net.eval()
    return float(fitted), float(trained)


def into(net: ReassembledNet, x: Tensor, block: int) -> Tensor:
    """Return what a block gets for normalised images."""
    out: Tensor = net.stitches[block - 1](net.before(x, block)) if block else x
    return out


def test_it_does_the_same_in_both_modes(net: ReassembledNet, target: InMemory) -> None:
    fitted, trained = losses(net, target)
    assert trained > 3 * fitted  # what there is to mend
    assert renew(net, target, PLAIN, HERE)
    assert not net.training
    renewed, trained = losses(net, target)
    assert renewed < 2.5 * fitted
    assert trained < 2.5 * fitted


def test_a_head_on_every_block_is_fitted_to_all_of_them(
    zoo: dict[str, zs.LineGraph], target: InMemory
) -> None:
    """And FROZEN-TUNING on kept features, taps among them, is FROZEN-TUNING."""
    recipe = Recipe(MIXED.blocks, taps="blocks")
    net = zs.assemble(recipe, zoo, images=target.images, labels=target.labels)
    old = copy.deepcopy(net)
    fitted, _ = losses(net, target)
    assert renew(net, target, PLAIN, HERE)
    x = TRANSFORM.normalize(target.images)
    with torch.no_grad():
        wanted, got = old(x), net(x)
        unfitted = old.head(net.pooled(*net.read(x)))
    errors = [float((logits - wanted).square().mean()) for logits in (got, unfitted)]
    assert errors[0] < 0.2 * errors[1]
    renewed, trained = losses(net, target)
    assert renewed < 2.5 * fitted
    assert trained < 2.5 * fitted
    schedule = replace(AS_THEY_ARE, epochs_frozen=2, augment_frozen="none")
    curves = []
    for cache in (0, 2**30):
        tuned = copy.deepcopy(net)
        result = train(
            tuned, target, num_classes=10, transform=TRANSFORM, schedule=schedule,
            protocol="frozen", machine=replace(HERE, cache_bytes=cache),
        )  # fmt: skip
        curves.append([point.train_loss for point in result.curve])
        assert losses(tuned, target)[0] < 1.5 * renewed
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)


def test_statistics_are_those_of_what_each_norm_gets(net: ReassembledNet, target: InMemory) -> None:
    """By hand in float64, block after block, from what the renewed blocks before really give."""
    renew(net, target, PLAIN, HERE)
    x = TRANSFORM.normalize(target.images)
    for place, block in enumerate(net.blocks):
        inputs = into(net, x, place)
        for node in block:
            given = node[0](inputs).double()
            norm = node[1]
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.momentum == 0.1
            assert norm.running_mean is not None
            assert norm.running_var is not None
            # A cumulative mean over batches of nearly equal size, whose order is drawn: its mean
            # is that of all images, its variance a little less than theirs.
            torch.testing.assert_close(
                norm.running_mean.double(), given.mean((0, 2, 3)), rtol=2e-2, atol=2e-2
            )
            ratio = norm.running_var.double() / given.detach().var((0, 2, 3))
            assert float(ratio.min()) > 0.85
            assert float(ratio.max()) < 1.05
            # In its pass a norm gives what it makes of a batch, so the next one is compared alike.
            inputs = node(inputs)


def test_a_stitch_gives_the_next_block_what_it_gave_before(
    net: ReassembledNet, target: InMemory
) -> None:
    x = TRANSFORM.normalize(target.images)
    before = copy.deepcopy(net)
    with torch.no_grad():
        wanted = into(before, x, 1)
        renew(net, target, PLAIN, HERE)
        unfitted = before.stitches[0](net.before(x, 1))
        errors = [float((given - wanted).square().mean()) for given in (into(net, x, 1), unfitted)]
    spread = float((wanted - wanted.mean((0, 2, 3), keepdim=True)).square().mean())
    assert errors[0] < 0.2 * spread
    assert errors[0] < 0.1 * errors[1]


def test_without_batch_norms_nothing_changes(target: InMemory) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip
    graph = zs.trace(plain.eval(), input_size=(3, SIZE, SIZE))
    net = zs.assemble(Recipe.whole("p", len(graph)), {"p": graph}, "random", num_classes=10)
    before = copy.deepcopy(net.state_dict())
    assert not renew(net, target, PLAIN, HERE)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_the_head_of_a_source_stays(zoo: dict[str, zs.LineGraph], target: InMemory) -> None:
    net = zs.assemble(replace(MIXED, head="source"), zoo, images=target.images)
    head = copy.deepcopy(net.head.state_dict())
    mean = net.blocks[1][0][1].running_mean.clone()
    assert renew(net, target, PLAIN, HERE)
    assert all(torch.equal(value, head[key]) for key, value in net.head.state_dict().items())
    assert not torch.equal(mean, net.blocks[1][0][1].running_mean)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_a_head_that_fits_is_kept_and_another_one_fitted(scale: float) -> None:
    torch.manual_seed(0)
    head = nn.Linear(8, 3)
    old = copy.deepcopy(head.weight)
    x = torch.randn(200, 8)
    wanted, scaled = head(x), scale * x.double()
    held = [torch.arange(100) % 4 == 0] * 2
    renewal._fit_head(head, scaled.split(100), wanted.split(100), held)
    torch.testing.assert_close(head.weight * scale, old)
    assert torch.equal(head.weight, old) == (scale == 1)


@torch.no_grad()
def test_more_classes_than_images_keep_the_old_head() -> None:
    torch.manual_seed(0)
    head = nn.Linear(64, 100)
    old = copy.deepcopy(head.weight)
    x = torch.randn(24, 64)
    wanted = head(x).detach()
    held = [torch.arange(24) % 4 == 0]
    renewal._fit_head(head, [1.1 * x.double()], [wanted], held)
    assert torch.equal(head.weight, old)


def test_the_same_seed_gives_the_same_bits_whatever_was_drawn_before(
    net: ReassembledNet, target: InMemory
) -> None:
    copies = [copy.deepcopy(net) for _ in range(3)]
    for seed, one in zip((0, 0, 1), copies, strict=True):
        torch.rand(7)
        state = torch.get_rng_state()
        renew(one, target, PLAIN, HERE, seed)
        assert torch.equal(state, torch.get_rng_state())
    first, again, other = (one.head.weight for one in copies)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_images_are_seen_as_the_training_sees_them(net: ReassembledNet, target: InMemory) -> None:
    """Mixed in pairs, so that an odd image is left out; the statistics are those of mixtures."""
    schedule = replace(AS_THEY_ARE, mixup=0.8)
    mixed = Augmentation(10, TRANSFORM, schedule, "full")
    odd = InMemory(target.images[:199], target.labels[:199])
    plain = copy.deepcopy(net)
    assert renew(net, odd, mixed, HERE)
    assert renew(plain, odd, PLAIN, HERE)
    ours, theirs = (one.blocks[0][0][1].running_var for one in (net, plain))
    assert float((ours / theirs).mean()) < 0.95


def test_a_device_without_room_gets_fewer_images_at_once(
    net: ReassembledNet, target: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there then is what fewer images, and fewer at once, give from the start."""
    other, calls = copy.deepcopy(net), list[int]()

    class Crowded(Augmentation):
        room, after = 20, 3

        def __call__(self, images: Tensor, *more: Any) -> tuple[Tensor, Tensor]:
            calls.append(len(images))
            if len(images) > self.room and len(calls) > self.after:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().__call__(images, *more)

    crowded = Crowded(10, TRANSFORM, AS_THEY_ARE, "full")
    assert renew(net, target, crowded, HERE)
    assert max(calls) > 20
    monkeypatch.setattr(renewal, "_AT_ONCE", 16)
    monkeypatch.setattr(renewal, "_IMAGES", 512)
    renew(other, target, PLAIN, HERE)
    ours, theirs = net.state_dict(), other.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert {m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    assert not any(module.training for module in net.modules())
    crowded.room = 0
    assert not renew(net, target, crowded, HERE)
    assert all(torch.equal(value, theirs[key]) for key, value in net.state_dict().items())


def test_a_failure_in_the_middle_leaves_what_was_there(
    net: ReassembledNet, target: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = copy.deepcopy(net.state_dict())
    fits = renewal.fit_stitch

    def no_room(*given: Any, **options: Any) -> float:
        fits(*given, **options)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(renewal, "fit_stitch", no_room)
    assert not renew(net, target, PLAIN, HERE)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert {m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    assert not any(module.training for module in net.modules())


def test_a_stitch_that_gets_what_it_got_stays(
    zoo: dict[str, zs.LineGraph], target: InMemory
) -> None:
    """The block before it has no batch norms, and does the same in both modes."""
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip
    models = {**zoo, "plain": zs.trace(plain.eval(), input_size=(3, SIZE, SIZE))}
    recipe = Recipe((BlockRef("plain", 0, 2), BlockRef("light", 2, 4)))
    net = zs.assemble(recipe, models, images=target.images, labels=target.labels)
    stitch, head = (copy.deepcopy(part.state_dict()) for part in (net.stitches[0], net.head))
    assert renew(net, target, PLAIN, HERE)
    assert all(torch.equal(v, stitch[k]) for k, v in net.stitches[0].state_dict().items())
    assert not torch.equal(net.head.weight, head["weight"])


def test_neighbours_and_what_drops_out_are_renewed_alike(
    zoo: dict[str, zs.LineGraph], target: InMemory
) -> None:
    """A joint without a stitch; dropout in place, whose draws are seeded."""
    blocks = (BlockRef("dark", 0, 1), BlockRef("dark", 1, 2), BlockRef("light", 2, 4))
    made = []
    for _ in range(2):
        net = zs.assemble(Recipe(blocks), zoo, images=target.images, labels=target.labels)
        net.blocks[1].insert(0, nn.Dropout(0.2, inplace=True))
        torch.rand(3)
        assert renew(net, target, PLAIN, HERE)
        made.append(net.state_dict())
    assert all(torch.equal(value, made[1][key]) for key, value in made[0].items())


def test_what_is_not_finite_is_left_to_the_training(net: ReassembledNet, target: InMemory) -> None:
    with torch.no_grad():
        net.blocks[0][0][0].weight[0, 0, 0, 0] = torch.nan
    renew(net, target, PLAIN, HERE)
    with pytest.raises(DivergedError, match="loss is nan in epoch 1"):
        train(
            net, target, num_classes=10, transform=TRANSFORM, protocol="full", schedule=AS_THEY_ARE
        )


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("mixup", [0.0, 0.8])
def test_a_few_images_are_enough_or_left_alone(
    net: ReassembledNet, target: InMemory, count: int, mixup: float
) -> None:
    few = InMemory(target.images[:count], target.labels[:count])
    augment = Augmentation(10, TRANSFORM, replace(AS_THEY_ARE, mixup=mixup), "full")
    assert renew(net, few, augment, HERE) == (count > 1)
    with torch.no_grad():
        assert net(TRANSFORM.normalize(few.images)).isfinite().all()
