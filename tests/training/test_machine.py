"""The same training on several workers, in parts, in bf16, compiled, and where memory is short."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_net import TRANSFORM, HalvedNet, digits, make_net
from torch import Tensor

from zoo_search.core.errors import UserError
from zoo_search.training.machine import HERE, Machine, Workers, resolved
from zoo_search.training.optimize import running_mean
from zoo_search.training.schedules import SCHEDULES
from zoo_search.training.train import train

FOLDER = Path(__file__).parent
SCHEDULE = replace(SCHEDULES["few-shot"], epochs_full=2, batch_size=20)


def run(net: HalvedNet, machine: Machine = HERE, **change: Any) -> list[float]:
    schedule = replace(SCHEDULE, **change)
    result = train(
        net, digits(100), num_classes=10, transform=TRANSFORM, schedule=schedule, protocol="full",
        machine=machine,
    )  # fmt: skip
    return [point.train_loss for point in result.curve]


@pytest.mark.slow
def test_several_workers_give_the_curve_of_one_to_rounding(tmp_path: Path) -> None:
    """Real processes; steps of an odd size, so that shares differ."""
    from ddp_worker import curves

    path = os.pathsep.join([str(FOLDER), *sys.path])
    processes = [
        subprocess.Popen(
            [sys.executable, FOLDER / "ddp_worker.py", str(rank), "2", tmp_path],
            env={**os.environ, "PYTHONPATH": path},
        )
        for rank in range(2)
    ]
    from zoo_search.training.machine import ALONE

    alone = curves(ALONE)
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    for rank in range(2):
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        assert told.keys() == alone.keys()
        # With norms of its own a worker is another training, but all end with one network.
        for name in [name for name in told if name.startswith("norm")]:
            first = json.loads((tmp_path / "0.json").read_text())
            assert told[name] == first[name]
        for name, expected in alone.items():
            for ours, theirs in zip(flat(told[name]), flat(expected), strict=True):
                if name.startswith("norm"):
                    continue
                assert ours == pytest.approx(theirs, rel=2e-4, abs=1e-6), (name, rank)


def test_synchronised_norms_leave_room_for_a_running_mean(tmp_path: Path) -> None:
    """They hold their group of processes, a real one here; on a CPU they run in eval mode only."""
    from timm.layers import norm_act

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
    )
    try:
        group = torch.distributed.new_group([0])
        net = norm_act.convert_sync_batchnorm(make_net(), group).eval()
        with pytest.raises(TypeError, match="pickle"):
            copy.deepcopy(net)
        ema = running_mean(net, replace(SCHEDULE, ema=0.9))
        norms = [m for m in net.modules() if isinstance(m, torch.nn.SyncBatchNorm)]
        assert len(norms) == 3
        assert all(norm.process_group is group for norm in norms)
        assert ema is not None
        x = TRANSFORM.normalize(digits(8).images)
        assert torch.equal(ema.module(x), net(x))
    finally:
        torch.distributed.destroy_process_group()


def flat(value: Any) -> list[float]:
    return [x for part in value for x in flat(part)] if isinstance(value, list) else [value]


def test_parts_add_up_to_the_step() -> None:
    whole, parts = make_net(norm=False), make_net(norm=False)
    assert run(parts, replace(HERE, parts=3)) == pytest.approx(run(whole), rel=1e-5)
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    # More parts than images are as many as images.
    assert run(make_net(norm=False), replace(HERE, parts=50)) == pytest.approx(
        run(make_net(norm=False)), rel=1e-5
    )


class Tight(HalvedNet):
    """A network on a device with room for so many images."""

    room = 6

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.room and self.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().forward(x)


def test_where_memory_is_short_steps_go_in_parts() -> None:
    said: list[str] = []
    torch.manual_seed(7)
    tight, roomy = Tight(norm=False), make_net(norm=False)
    parts = list[int]()
    found = run(tight, replace(HERE, tell=said.append, short=parts.append))
    assert found == pytest.approx(run(roomy), rel=1e-5)
    assert len(said) == 2  # 20 images, 10, 5
    assert "4 parts" in said[-1]
    assert parts == [2, 4]
    tight.room = 0
    with pytest.raises(UserError, match=r"no room for a single image of .*Lower input_size"):
        run(tight, replace(HERE, tell=said.append))


def test_other_workers_are_not_kept_waiting_where_memory_is_short() -> None:
    torch.manual_seed(7)
    machine = replace(HERE, workers=Workers(0, 2, None))
    tight = Tight(norm=False)
    wrap: Callable[[Any, Any], Any] = lambda machine, module: module  # noqa: E731
    with pytest.MonkeyPatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(Machine, "wrap", wrap)
        patch.setattr(torch.nn.Module, "no_sync", lambda self: None, raising=False)
        run(tight, machine)


def test_fewer_images_than_workers_are_refused() -> None:
    """Of a step of 20 a worker takes pairs, so that eleven find nothing for the last."""
    machine = replace(HERE, workers=Workers(0, 11, None))
    with pytest.raises(UserError, match=r"100 training images in steps of 20 .*11 workers"):
        run(make_net(), machine)


def test_bf16_is_near_fp32_and_weights_stay_fp32() -> None:
    exact, net, seen = make_net(), make_net(), set[torch.dtype]()
    net.blocks[1].register_forward_hook(lambda m, x, y: seen.add(x[0].dtype))
    assert run(net, replace(HERE, precision="bf16")) == pytest.approx(run(exact), rel=0.05)
    assert torch.bfloat16 in seen
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_auto_is_fp32_on_a_cpu() -> None:
    cpu = torch.device("cpu")
    assert [resolved(p, cpu) for p in ("auto", "fp32", "bf16")] == ["fp32", "fp32", "bf16"]  # type: ignore[arg-type]


def test_the_fused_optimizer_makes_the_steps_of_the_plain_one() -> None:
    from zoo_search.training.optimize import make_optimizer, rates_of
    from zoo_search.training.train import trainable

    nets = [make_net().to(memory_format=torch.channels_last) for _ in range(2)]  # type: ignore[call-overload]
    schedule = replace(SCHEDULE, step_limit_full=None)
    rates = rates_of(nets[0], trainable(nets[0], "full"), "full", schedule)
    fused = make_optimizer(nets[0], rates, "full", schedule)
    assert all(group["fused"] for group in fused.param_groups)
    groups = [
        {"params": [p], "lr": SCHEDULE.lr_full, "weight_decay": 0.05 if p.ndim > 1 else 0.0}
        for p in nets[1].parameters()
    ]
    plain = torch.optim.AdamW(groups, betas=(0.9, SCHEDULE.beta2), foreach=False)
    images = digits(64)
    for _ in range(5):
        for net, optimizer in zip(nets, (fused, plain), strict=True):
            optimizer.zero_grad()
            logits = net(TRANSFORM.normalize(images.images))
            torch.nn.functional.cross_entropy(logits, images.labels).backward()
            optimizer.step()
    for ours, theirs in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_running_mean_is_what_a_protocol_ends_with() -> None:
    """Against the mean by hand, over the weights after every step."""
    from zoo_search.training.snapshot import Snapshot

    decay, weights = 0.8, list[Tensor]()

    def keep(share: float, snapshot: Callable[[], Snapshot]) -> None:
        weights.append(snapshot().tensors["model.head.weight"])

    net = make_net()
    first = net.head.weight.detach().clone()
    train(
        net, digits(100), num_classes=10, transform=TRANSFORM,
        schedule=replace(SCHEDULE, ema=decay), protocol="full", on_step=keep,
    )  # fmt: skip
    mean = first
    for done, weight in enumerate(weights):  # timm's warm-up: (1 + n)^(-2/3) is the new share
        kept = min(decay, 1 - (1 + done) ** (-2 / 3)) if done else 0.0
        mean = kept * mean + (1 - kept) * weight
    assert torch.allclose(net.head.weight, mean, atol=1e-6)
    assert not torch.allclose(net.head.weight, weights[-1], atol=1e-4)


@pytest.mark.slow
def test_compiled_it_trains_the_same() -> None:
    plain, compiled = make_net(), make_net()
    assert run(compiled, replace(HERE, compile=True)) == pytest.approx(run(plain), rel=1e-3)
