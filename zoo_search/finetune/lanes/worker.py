"""What one Ray Train worker does: fine-tune the networks of its lane, one after the other.

A lane is one worker or several that train one network together. A finished network is put into the
run directory; checkpoints hold the one in work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from zoo_search.core.imports import import_timm
from zoo_search.core.store import RunStore
from zoo_search.finetune.advance import Terms, advance
from zoo_search.finetune.tasks import TrainingTask
from zoo_search.finetune.trained import failure_of, folder_of
from zoo_search.training.machine import ALONE, Workers


@dataclass(frozen=True)
class Lanes:
    """What all workers are given.

    Attributes:
        tasks: Of each lane, in order.
        width: Workers of a lane; None: all that there are, however many.
        terms: Of all trainings.
    """

    tasks: Sequence[Sequence[TrainingTask]]
    width: int | None
    terms: Terms


def run_lane(lanes: Lanes) -> None:
    """Fine-tune those tasks of this worker's lane that have no end yet; runs inside Ray Train."""
    import ray.train.torch

    import_timm()  # the quick way, before the networks' own modules would import it
    terms = lanes.terms
    torch.set_num_threads(terms.threads)
    store = RunStore(terms.store)
    lane, workers = _place(lanes.width)
    device = ray.train.torch.get_device()
    if 0 < terms.gpus < 1:
        torch.cuda.set_per_process_memory_fraction(terms.gpus, device)
    for task in lanes.tasks[lane]:
        ended = store.exists(folder_of(task.key)) or failure_of(store, task.key) is not None
        if not workers.say(ended):
            advance(task, store, terms, workers, device)


def _place(width: int | None) -> tuple[int, Workers]:
    """Return the number of this worker's lane, and its place there."""
    import ray.train

    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    width = width or size
    lane, place = divmod(rank, width)
    if width == 1:
        return lane, ALONE
    # Every worker has a part in the making of every group.
    groups = [
        torch.distributed.new_group(list(range(first, first + width)))
        for first in range(0, size - width + 1, width)
    ]
    return lane, Workers(place, width, groups[lane])
