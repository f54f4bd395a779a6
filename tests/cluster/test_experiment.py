"""What ends an experiment of Ray Tune comes out as it was raised, and Ray Tune prints nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from zoo_search import cluster
from zoo_search.cluster.experiment import run_experiment
from zoo_search.cluster.hosts import Hosts, Role


@pytest.fixture(scope="module")
def hosts(ray_cluster: None) -> Iterator[Hosts]:
    cluster.ship(squares)
    with Hosts() as shared:
        yield shared


class Numbers:
    """A study of the numbers from 0 up, which has no room in one of its methods at some point."""

    def __init__(self, full_in: str = "") -> None:
        self.full_in, self.asked = full_in, 0
        self.told: dict[int, str | None] = {}

    def ask(self) -> int | None:
        if self.full_in == "ask" and self.asked == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the journal")
        self.asked += 1
        return self.asked - 1 if self.asked <= 6 else None

    def arguments(self, asked: int) -> list[object]:
        return [asked]

    def tell(self, asked: int, answer: str | None) -> None:
        if self.full_in == "tell" and asked == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the journal")
        self.told[asked] = answer


def squares(full_at: int) -> object:
    def answer(number: int) -> tuple[float, str]:
        if number == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a stitch")
        return float(number), str(number * number)

    return answer


def run(study: Numbers, hosts: Hosts, full_at: int = -1) -> None:
    role = Role.of(squares, (full_at,))
    run_experiment(study, role, hosts, 1, name="x", gpu=False, on_look=lambda: None)


def test_a_study_hears_all_that_it_asked_for(hosts: Hosts) -> None:
    study = Numbers()
    run(study, hosts)
    assert study.told == {n: str(n * n) for n in range(6)}


@pytest.mark.parametrize("full_in", ["ask", "tell", "host"])
def test_a_full_disk_comes_out_as_it_is_and_counts_as_no_answer(
    full_in: str, hosts: Hosts, capfd: pytest.CaptureFixture[str]
) -> None:
    study = Numbers(full_in)
    with pytest.raises(OSError, match="No space left") as raised:
        run(study, hosts, 2 if full_in == "host" else -1)
    assert raised.value.errno == errno.ENOSPC
    assert study.told == {0: "0", 1: "1"}  # nothing was recorded of the third one
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err
