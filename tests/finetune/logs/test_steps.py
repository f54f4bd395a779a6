"""Steps of a training that was killed, that goes back, or that is another one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from finetune.logs.small_logs import curves, losses, opened

from zoo_search.core.store import RunStore
from zoo_search.finetune.logs.events import events_folder

KILLED = """
import os, signal, sys
from zoo_search.core.store import RunStore
from zoo_search.finetune.logs import EpochLog
log = EpochLog(RunStore(sys.argv[1]), [], "pets", "k1", "net 1", {})
for number in (1, 2):
    log.epoch("frozen", number, {"loss": 10 + number})
log.result("frozen", {"test_accuracy": 0.5})
for number in (1, 2, 3):
    log.epoch("full", number, {"loss": number})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_no_epoch_shows_twice_and_what_is_finished_stays(local: RunStore) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, local.url], check=False, timeout=120)
    assert done.returncode == -9
    folder = Path(local.path(events_folder("net 1")))
    assert curves(folder)["full/loss"] == [(3, 1), (4, 2), (5, 3)]
    with opened(local) as log:
        losses(log, "full", 2, 4, base=100)
        log.result("full", {"test_accuracy": 0.75})
    assert curves(folder) == {
        "frozen/loss": [(1, 11), (2, 12)],
        "frozen/test_accuracy": [(2, 0.5)],
        "full/loss": [(3, 1), (4, 102), (5, 103), (6, 104)],
        "full/test_accuracy": [(6, 0.75)],
    }


def test_a_training_may_go_back_over_a_protocol_or_find_all_epochs_done(local: RunStore) -> None:
    with opened(local) as log:
        losses(log, "frozen", 1, 3, base=10)
        log.result("frozen", {"test_accuracy": 0.5})
        losses(log, "full", 1, 1, base=0)
    with opened(local) as log:  # the newest checkpoint was of the protocol before
        losses(log, "frozen", 3, 3, base=100)
        log.result("frozen", {"test_accuracy": 0.25})
        losses(log, "full", 1, 2, base=0)
    with opened(local) as log:
        log.result("full", {"test_accuracy": 0.75})
    opened(local).result("full", {"test_accuracy": 0.75})
    assert curves(Path(local.path(events_folder("net 1")))) == {
        "frozen/loss": [(1, 11), (2, 12), (3, 103)],
        "frozen/test_accuracy": [(3, 0.25)],
        "full/loss": [(4, 1), (5, 2)],
        "full/test_accuracy": [(5, 0.75)],
    }


def test_another_training_of_a_network_takes_the_place_of_its_curve(local: RunStore) -> None:
    with opened(local) as log:
        losses(log, "frozen", 1, 3, base=0)
    with opened(local, key="k2") as log:
        losses(log, "full", 1, 1, base=5)
    assert curves(Path(local.path(events_folder("net 1")))) == {"full/loss": [(1, 6)]}
