"""How workers are shared out over networks, GPUs and CPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from small_runs import Setting, make_task

from zoo_search.cluster import Resources
from zoo_search.config import FinetuneConfig
from zoo_search.core.errors import UserError
from zoo_search.finetune.lanes.layout import Layout, lay_out, share_out


def layout(cpus: int, gpus: int, tasks: int, **config: Any) -> Layout:
    found = Resources(cpus, gpus, config.pop("nodes", 1), "local")
    streams, batch = config.pop("streams", False), config.pop("batch", 1024)
    return lay_out(found, tasks, FinetuneConfig(**config), batch=batch, streams=streams)


def fits(made: Layout, cpus: int, gpus: int) -> bool:
    return made.most * made.reserved <= cpus + 1e-6 and made.most * made.gpus <= gpus + 1e-6


def test_a_share_of_a_gpu_lies_on_one_gpu() -> None:
    assert layout(8, 2, 9, gpus_per_worker=0.6).most == 2
    assert layout(8, 2, 9, gpus_per_worker=0.3).most == 6
    alone = layout(8, 1, 1, gpus_per_worker=0.25)
    assert (alone.most, alone.width) == (1, 1)


def test_small_steps_are_not_cut_to_crumbs() -> None:
    assert layout(64, 32, 1, batch=16).width == 2
    assert layout(64, 32, 1, batch=1024).width == 32


def test_what_is_left_to_do_is_done_as_it_would_have_been() -> None:
    """After a kill fewer networks are left; each has the threads and workers that it had."""
    whole = layout(8, 0, 7)
    assert whole.narrowed(2) == replace(whole, lanes=2, least=2, most=2)
    assert whole.narrowed(9) == whole
    gpus = layout(64, 8, 3)
    assert gpus.narrowed(1) == replace(gpus, lanes=1, least=2, most=2)


def test_every_node_keeps_a_cpu_for_decoding() -> None:
    """A task of Ray Data lies on one node: half a CPU on each of two would be none."""
    made = layout(16, 16, 16, nodes=2, streams=True)
    assert 8 - 8 * made.reserved >= 1 - 1e-6
    assert made.task_cpus == 1.0


def test_a_laptop_trains_as_many_networks_as_it_has_cores() -> None:
    made = layout(2, 0, 7)
    assert (made.lanes, made.width, made.most, made.threads) == (2, 1, 2, 1)
    alone = layout(2, 0, 1)
    assert (alone.lanes, alone.width, alone.threads) == (1, 1, 2)


def test_half_of_the_cores_decode_where_images_are_streamed() -> None:
    made = layout(8, 0, 7, streams=True)
    assert (made.lanes, made.threads) == (4, 1)
    assert made.decoders == 1.0
    one = layout(8, 0, 1, streams=True)
    assert (one.lanes, one.threads, one.reserved, one.decoders) == (1, 4, 4.0, 4.0)


@pytest.mark.parametrize("cpus", [1, 2, 3, 16])
@pytest.mark.parametrize("workers", [None, 1, 2])
def test_decoding_never_waits_for_a_core(cpus: int, workers: int | None) -> None:
    """Ray Data's tasks need a CPU of Ray's account while the workers hold theirs."""
    if (workers or 1) > cpus:
        return
    made = layout(cpus, 0, 3, streams=True, workers=workers)
    assert fits(made, cpus, 0)
    assert made.reserved > 0
    assert cpus - made.most * made.reserved >= made.task_cpus - 1e-6
    assert made.decoders >= 1


def test_every_network_has_a_gpu_then_the_others_are_shared_out() -> None:
    assert (layout(64, 8, 20).lanes, layout(64, 8, 20).width) == (8, 1)
    assert (layout(64, 8, 3).lanes, layout(64, 8, 3).width) == (3, 2)
    assert (layout(64, 8, 1).lanes, layout(64, 8, 1).width) == (1, 8)
    large = layout(64, 8, 3, workers=8)
    assert (large.lanes, large.width, large.most, large.gpus) == (1, 8, 8, 1.0)
    assert fits(large, 64, 8)


def test_small_networks_share_a_gpu() -> None:
    made = layout(8, 1, 7, gpus_per_worker=0.25, workers=1)
    assert (made.lanes, made.width, made.gpus) == (4, 1, 0.25)
    assert fits(made, 8, 1)


def test_a_cluster_that_grows_and_shrinks_is_one_lane() -> None:
    made = layout(64, 4, 5, workers=(2, 8))
    assert (made.lanes, made.width, made.least, made.most) == (1, None, 2, 8)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(UserError, match=r"finetune\.workers: 4 workers of 1 GPUs each .* 2 that"):
        layout(8, 2, 1, workers=4)
    with pytest.raises(UserError, match=r"finetune\.workers: 3 workers of one CPU each"):
        layout(2, 0, 1, workers=3)
    with pytest.raises(UserError, match=r"finetune\.sync_bn: .*GPUs only"):
        layout(2, 0, 1, sync_bn=True)


def test_tasks_are_shared_out_evenly(setting: Setting) -> None:
    tasks = [make_task(setting, macs, str(macs)) for macs in (9, 7, 6, 5, 5)]
    shares = share_out(tasks, 2)
    assert sorted(sum(t.macs for t in share) for share in shares) == [14, 18]
    assert sorted(t.key for share in shares for t in share) == sorted(t.key for t in tasks)
