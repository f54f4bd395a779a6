"""The two protocols on small real networks and scikit-learn's digits."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image

from zoo_search.core.errors import UserError
from zoo_search.data.preprocess import Preprocess
from zoo_search.training.accuracy import accuracy
from zoo_search.training.augment import Augmentation, light
from zoo_search.training.images import InMemory
from zoo_search.training.optimize import Rate
from zoo_search.training.order import steps_of
from zoo_search.training.pictures import PictureAugment
from zoo_search.training.schedules import FROM_SCRATCH, SCHEDULES, Schedule
from zoo_search.training.snapshot import Snapshot
from zoo_search.training.train import train

SIZE = 16
TRANSFORM = Preprocess(size=(SIZE, SIZE))
QUICK = replace(SCHEDULES["few-shot"], epochs_frozen=3, epochs_full=3, batch_size=32)


class SmallNet(nn.Module):
    """Two blocks with batch norm and dropout, a stitch between them, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([self.block(3, 8), self.block(12, 16)])
        self.stitches = nn.ModuleList([nn.Conv2d(8, 12, 1)])
        self.pool = nn.Flatten()
        self.head = nn.Linear(16 * (SIZE // 4) ** 2, 10)

    @staticmethod
    def block(before: int, after: int) -> nn.Module:
        layers = [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Dropout2d(0.1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[1](self.stitches[0](self.blocks[0](x)))
        out: Tensor = self.head(self.pool(x))
        return out


def make_net() -> SmallNet:
    torch.manual_seed(7)
    return SmallNet()


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = torch.from_numpy(data.images).float()[:, None] * (255 / 16)
    images = nn.functional.interpolate(grey, size=(SIZE, SIZE)).round().to(torch.uint8)
    return images.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(data.target).long()


def state_of(net: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(OrderedDict(net.state_dict()))


def run(net: nn.Module, data: tuple[Tensor, Tensor], protocol: Any, **kwargs: Any) -> Any:
    images, labels = data
    options = {"num_classes": 10, "transform": TRANSFORM, "schedule": QUICK, "seed": 3, **kwargs}
    return train(net, InMemory(images[:200], labels[:200]), protocol=protocol, **options)


def test_frozen_leaves_blocks_to_the_last_bit_and_trains_stitches_and_head(
    digits: tuple[Tensor, Tensor],
) -> None:
    net = make_net()
    before = state_of(net)
    result = run(net, digits, "frozen")
    after = net.state_dict()
    for key, value in after.items():
        same = torch.equal(value, before[key])
        assert same == key.startswith("blocks"), key
    assert result.trainable_params == 8 * 12 + 12 + 256 * 10 + 10
    assert not net.training
    assert all(p.requires_grad for p in net.parameters())


def test_full_changes_every_tensor(digits: tuple[Tensor, Tensor]) -> None:
    net = make_net()
    before = state_of(net)
    result = run(net, digits, "full")
    unchanged = [k for k, v in net.state_dict().items() if torch.equal(v, before[k])]
    assert unchanged == []
    assert result.trainable_params == sum(p.numel() for p in net.parameters())


def test_parameters_that_a_head_shares_with_a_block_stay_frozen(
    digits: tuple[Tensor, Tensor],
) -> None:
    net = make_net()
    net.head = nn.Sequential(nn.Conv2d(16, 16, 1), nn.Flatten(), nn.Linear(256, 10))
    net.blocks.append(net.head[0])
    net.pool = nn.Identity()
    before = state_of(net)
    run(net, digits, "frozen")
    assert torch.equal(net.head[0].weight, before["head.0.weight"])


@pytest.mark.parametrize("protocol", ["frozen", "full"])
def test_same_seed_same_result_other_seed_another(
    digits: tuple[Tensor, Tensor], protocol: str
) -> None:
    states = []
    for seed in (3, 3, 4):
        net = make_net()
        torch.manual_seed(seed * 1000 + len(states))  # the global state must not matter
        run(net, digits, protocol, seed=seed)
        states.append(net.state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    assert not torch.equal(states[0]["head.weight"], states[2]["head.weight"])


def test_training_leaves_the_global_random_state(digits: tuple[Tensor, Tensor]) -> None:
    import random

    import numpy as np

    net = make_net()
    before = (torch.get_rng_state(), str(np.random.get_state()), random.getstate())
    run(net, digits, "full")
    after = (torch.get_rng_state(), str(np.random.get_state()), random.getstate())
    assert torch.equal(after[0], before[0])
    assert after[1:] == before[1:]


def test_digits_are_learned(digits: tuple[Tensor, Tensor]) -> None:
    net = make_net()
    images, labels = digits
    schedule = replace(QUICK, epochs_full=12, lr_full=1e-2)
    result = train(
        net, InMemory(images[:1000], labels[:1000]), num_classes=10, transform=TRANSFORM,
        schedule=schedule, protocol="full",
    )  # fmt: skip
    assert result.curve[-1].train_loss < 0.6 * result.curve[0].train_loss
    found = accuracy(net, InMemory(images[1000:], labels[1000:]), TRANSFORM, batch_size=100)
    with torch.no_grad():
        predicted = net(TRANSFORM.normalize(images[1000:])).argmax(1)
    assert found == pytest.approx((predicted == labels[1000:]).float().mean().item(), abs=0.003)
    assert found > 0.8


@pytest.mark.parametrize("protocol", ["frozen", "full"])
def test_resume_from_any_epoch_equals_undisturbed(
    digits: tuple[Tensor, Tensor], protocol: str
) -> None:
    snapshots: list[Snapshot] = []
    whole = make_net()
    first = run(
        whole, digits, protocol, on_epoch=lambda point, snapshot: snapshots.append(snapshot())
    )
    for snapshot in snapshots[:2]:
        # As it travels: through safetensors.
        read = replace(snapshot, tensors=load(save(dict(snapshot.tensors))))
        net = make_net()
        again = run(net, digits, protocol, resume=read)
        assert [e.train_loss for e in again.curve] == [e.train_loss for e in first.curve]
        assert all(torch.equal(v, whole.state_dict()[k]) for k, v in net.state_dict().items())


def test_frozen_snapshots_hold_no_blocks(digits: tuple[Tensor, Tensor]) -> None:
    kept: list[Snapshot] = []
    run(make_net(), digits, "frozen", on_epoch=lambda point, snapshot: kept.append(snapshot()))
    assert {key.split(".")[1] for key in kept[-1].tensors if key.startswith("model.")} == {
        "stitches",
        "head",
    }


def test_divergence_is_said(digits: tuple[Tensor, Tensor]) -> None:
    net = make_net()
    with torch.no_grad():
        net.head.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"the loss is nan in epoch 1\. Lower finetune\.lr"):
        run(net, digits, "full")


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": 2.0}], lr=9)
    rate, rates = Rate(optimizer, 100, 0.1), []
    for step in range(100):
        rate.set(step)
        rates.append(optimizer.param_groups[0]["lr"])
    expected = [
        2 * (s + 0.5) / 10 if s < 10 else 1 + math.cos(math.pi * (s + 0.5 - 10) / 90)
        for s in range(100)
    ]
    assert rates == pytest.approx(expected)
    assert 0 < rates[0] < 0.3
    assert 0 < rates[-1] < 0.01


def test_light_augmentation_keeps_type_and_does_not_mirror() -> None:
    torch.manual_seed(0)
    images = torch.zeros(64, 3, SIZE, SIZE, dtype=torch.uint8)
    images[..., : SIZE // 4] = 200  # bright on the left
    out = light(images)
    assert out.dtype == torch.uint8
    assert out.shape == images.shape
    assert bool((edge(out, "left") > edge(out, "right")).all())
    assert len({tuple(x.flatten().tolist()) for x in out}) == 64
    mirrored = light(images, flip=1.0)
    assert edge(mirrored, "left").mean() < edge(mirrored, "right").mean()


def edge(images: Tensor, side: str) -> Tensor:
    part = images[..., :3] if side == "left" else images[..., -3:]
    return part.float().mean(dim=(1, 2, 3))


def batches_of(schedule: Schedule, digits: tuple[Tensor, Tensor], count: int) -> Any:
    torch.manual_seed(0)
    images, labels = digits
    augment = Augmentation(10, TRANSFORM, schedule, "full")
    steps = steps_of(np.random.permutation(count), schedule.batch_size, even=augment.pairs)
    return [augment(images[s], labels[s], np.arange(len(s)), len(s)) for s in steps]


def test_few_shot_batches_use_every_image_once_with_smooth_targets(
    digits: tuple[Tensor, Tensor],
) -> None:
    parts = batches_of(replace(QUICK, batch_size=16), digits, 100)
    assert sorted(len(x) for x, _ in parts) == [16, 16, 17, 17, 17, 17]
    targets = torch.cat([y for _, y in parts])
    assert torch.equal(targets.argmax(1).bincount(), digits[1][:100].bincount())
    assert targets.max().item() == pytest.approx(0.9 + 0.01)
    assert torch.allclose(targets.sum(1), torch.ones(100))


def test_timm_batches_are_mixed_and_even(digits: tuple[Tensor, Tensor]) -> None:
    parts = batches_of(replace(SCHEDULES["timm"], batch_size=17), digits, 51)
    assert [x.shape for x, _ in parts] == [(16, 3, SIZE, SIZE)] * 3
    targets = torch.cat([y for _, y in parts])
    assert torch.allclose(targets.sum(1), torch.ones(48), atol=1e-5)
    assert ((targets > 0.05).sum(1) == 2).any()  # two classes in one image


class Pictures:
    """Images that are augmented one by one, as CPU workers do it."""

    def __init__(self, images: InMemory) -> None:
        self.images, self.order = images, images.order
        self.change = PictureAugment(TRANSFORM, 0.5, 0.25)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, wanted: Any, draw: str | None = None) -> Any:
        for places, (x, y) in zip(wanted, self.images.read(wanted), strict=True):
            changed = [
                self.change(to_pil_image(image), f"{draw} {place}")
                for place, image in zip(places, x, strict=True)
            ]
            yield torch.from_numpy(np.stack(changed)), y


def test_the_timm_schedule_trains(digits: tuple[Tensor, Tensor]) -> None:
    schedule = replace(SCHEDULES["timm"], epochs_full=1, batch_size=32)
    a, b = make_net(), make_net()
    for net in (a, b):
        train(
            net, Pictures(InMemory(digits[0][:200], digits[1][:200])), num_classes=10,
            transform=TRANSFORM, schedule=schedule, protocol="full", seed=3,
        )  # fmt: skip
    with pytest.raises(ValueError, match="stream"):
        run(make_net(), digits, "full", schedule=schedule)
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize("orthogonal", [False, True])
def test_from_scratch_without_stitches_or_augmentation(
    digits: tuple[Tensor, Tensor], orthogonal: bool
) -> None:
    images, labels = digits
    schedule = replace(FROM_SCRATCH[orthogonal], epochs_full=4)
    states, shares = [], list[float]()
    for _ in range(2):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 32), nn.ReLU(), nn.Linear(32, 10))
        result = train(
            net, InMemory(images[:1000], labels[:1000]), num_classes=10, transform=TRANSFORM,
            schedule=schedule, protocol="full", on_step=lambda share, _: shares.append(share),
        )  # fmt: skip
        assert result.curve[-1].train_loss < 0.6 * result.curve[0].train_loss
        states.append(net.state_dict())
    assert accuracy(net, InMemory(images[1000:], labels[1000:]), TRANSFORM) > 0.8
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    steps = len(shares) // 2
    assert steps == 4 * round(1000 / schedule.batch_size)
    assert shares[:steps] == sorted(shares[:steps])
    assert shares[steps - 1] == pytest.approx(1.0)


def test_nothing_computes_in_bfloat16(digits: tuple[Tensor, Tensor]) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Types(TorchDispatchMode):
        seen: ClassVar[set[torch.dtype]] = set()

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            for value in out if isinstance(out, tuple | list) else (out,):
                if isinstance(value, Tensor):
                    self.seen.add(value.dtype)
            return out

    for schedule in (*SCHEDULES.values(), *FROM_SCRATCH):
        one = replace(schedule, epochs_full=1, batch_size=64, augment="light")
        with Types():
            run(make_net(), digits, "full", schedule=one)
    assert torch.float32 in Types.seen
    assert not {torch.bfloat16, torch.float16} & Types.seen


def test_class_weights_are_those_of_torchs_cross_entropy(digits: tuple[Tensor, Tensor]) -> None:
    """The loss of a first step over all images, with smooth labels and without."""
    images, labels = digits[0][:60], digits[1][:60]
    weights = torch.rand(10, generator=torch.Generator().manual_seed(2)) + 0.5
    weights /= weights[labels].mean()
    for smoothing in (0.0, 0.1):
        schedule = replace(
            QUICK, epochs_full=1, batch_size=60, augment="none", label_smoothing=smoothing
        )
        found = run(still_net(), (images, labels), "full", schedule=schedule, class_weights=weights)
        with torch.no_grad():
            logits = still_net()(TRANSFORM.normalize(images))
        options = {"weight": weights, "label_smoothing": smoothing}
        expected = nn.functional.cross_entropy(logits, labels, **options, reduction="sum") / 60
        assert found.curve[0].train_loss == pytest.approx(float(expected), rel=1e-5)
        # Where the mean weight is 1, that is torch's own mean.
        assert float(expected) == pytest.approx(
            float(nn.functional.cross_entropy(logits, labels, **options)), rel=1e-5
        )


def test_an_image_of_the_weight_two_trains_as_two_of_them(digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][:40], digits[1][:40]
    twice = torch.cat([torch.arange(40), torch.nonzero(labels == 3).flatten()])
    weights = torch.ones(10)
    weights[3] = 2.0
    states = []
    for at, told in ((twice, None), (torch.arange(40), weights / weights[labels].mean())):
        net = still_net()
        schedule = replace(
            QUICK, epochs_full=3, batch_size=len(at), augment="none", label_smoothing=0.0
        )
        data = images[at], labels[at]
        run(net, data, "full", schedule=schedule, class_weights=told)
        states.append(net.state_dict())
    before = still_net().state_dict()
    # AdamW makes steps of one length of gradients that are nothing but rounding, too.
    for name, value in states[0].items():
        apart = (value - states[1][name]).abs().mean()
        assert apart < 0.02 * (value - before[name]).abs().mean(), name


def still_net() -> nn.Module:
    """A network that does the same in training and in eval mode."""
    torch.manual_seed(7)
    return nn.Sequential(
        OrderedDict(
            blocks=nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Tanh(), nn.Flatten()),
            stitches=nn.Identity(),
            head=nn.Linear(8 * (SIZE // 4) ** 2, 10),
        )
    )
