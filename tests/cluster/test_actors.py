"""Pools of real Ray actors that are killed, stopped, or never come."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict

import psutil
import pytest

from zoo_search.cluster import hosts as hosts_module
from zoo_search.cluster.actors import ActorPool, in_order
from zoo_search.cluster.connection import Resources
from zoo_search.cluster.hosts import Hosts, borrowed
from zoo_search.core.errors import UserError
from zoo_search.core.timeout import TIMEOUT, set_timeout


@pytest.fixture(scope="module")
def shared_hosts(ray_cluster):
    """Two processes that all tests of this file share."""
    with Hosts() as made:
        yield made


@pytest.fixture
def hosts(shared_hosts):
    """The shared processes, both of which are there and answer: a start takes seconds."""
    seen = set()
    with ActorPool(shared_hosts, 2, square, what="processes") as pool:

        def both():
            seen.update(pid for _, pid in in_order(pool, [(n,) for n in range(8)], "a square"))
            return len({pid for pid in seen if psutil.pid_exists(pid)}) == 2

        eventually(both)
    return shared_hosts


def square():
    return lambda x: (x * x, os.getpid())


def eventually(check, seconds=60):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.02)


def drain(pool):
    found = []
    while pool.unanswered:
        if (answer := pool.poll()) is not None:
            found.append(answer)
    return found


def test_answers_come_in_order_and_are_told_as_they_come(hosts):
    told = []
    with ActorPool(hosts, 2, square, what="squares") as pool:
        found = in_order(pool, [(n,) for n in range(20)], "a square", told.append)
        assert pool.unanswered == 0
        assert pool.poll() is None  # nothing is waited for
    assert [value for value, _ in found] == [n * n for n in range(20)]
    assert sorted(told) == sorted(found)


def test_a_process_goes_from_role_to_role_and_drops_what_it_held(hosts, tmp_path):
    class Holder:
        """Tells in a file when it is there and when it is gone."""

        def __init__(self, name, folder):
            self.name, self.mine = name, folder / f"{name}-{os.getpid()}"
            assert not [path for path in folder.iterdir() if path.name.endswith(f"-{os.getpid()}")]
            self.mine.touch()
            (tmp_path / self.mine.name).touch()  # that one stays

        def __del__(self):
            self.mine.unlink()

        def __call__(self, x):
            # Neither process answers before both have been in their role.
            eventually(lambda: len(list(tmp_path.glob(f"{self.name}-*"))) == 2)
            return self.mine.name

    names, held = {}, tmp_path / "held"
    held.mkdir()
    for role in ("first", "second"):
        with ActorPool(hosts, 2, Holder, (role, held), what="names") as pool:
            names[role] = set(in_order(pool, [(n,) for n in range(8)], "a name"))
    # Those that were in a role, whether or not they came to answer.
    processes = {
        name: {path.name.split("-")[1] for path in tmp_path.glob(f"{name}-*")} for name in names
    }
    assert all(n.startswith("second-") for n in names["second"])
    assert processes["first"] == processes["second"]
    eventually(lambda: not list(held.iterdir()))  # closed, a pool's role is forgotten


def test_processes_import_what_their_role_needs_and_no_more(ray_cluster):
    def modules():
        import sys

        return lambda: sorted({"torch", "pandas", "scipy", "timm"} & set(sys.modules))

    with Hosts() as own, ActorPool(own, 1, modules, what="modules") as pool:
        assert in_order(pool, [()], "modules") == [[]]


def test_a_host_that_is_killed_costs_nothing_but_time(hosts):
    with ActorPool(hosts, 2, square, what="processes") as pool:
        before = {pid for _, pid in in_order(pool, [(n,) for n in range(20)], "a process")}
    victim, killed = min(before), []

    def kill(answer):
        if not killed:
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

    with ActorPool(hosts, 2, square, what="squares", in_flight=2) as pool:
        found = in_order(pool, [(n,) for n in range(300)], "a square", kill)
        assert [value for value, _ in found] == [n * n for n in range(300)]
        eventually(lambda: not psutil.pid_exists(victim) or _zombie(victim))
        # The pool is as good as new: another process takes the place of the dead one.
        seen = set()

        def both():
            seen.update(pid for _, pid in in_order(pool, [(n,) for n in range(8)], "a square"))
            return len(seen - {victim}) == 2

        eventually(both)


def _zombie(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_call_that_kills_every_host_is_named(hosts):
    def role():
        def work(x):
            if x == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return x

        return work

    with ActorPool(hosts, 2, role, what="numbers", cure="Ask for less.") as pool:
        for n in range(5):
            pool.submit(n, n, name=f"the number {n}")
        told = r"died 5 times over the number 3 \(.*ray status.*Ask for less\.$"
        with pytest.raises(UserError, match=told) as error:
            drain(pool)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("where", ["role", "call"])
def test_an_error_of_the_work_is_told_as_it_is(hosts, where):
    def role(where):
        if where == "role":
            raise UserError("What is wrong, and its cure.")

        def work():
            raise UserError("What is wrong, and its cure.")

        return work

    with ActorPool(hosts, 1, role, (where,), what="nothing") as pool:
        with pytest.raises(UserError, match=r"^What is wrong, and its cure\.$") as error:
            in_order(pool, [()], "nothing")
        assert type(error.value) is UserError


def test_calls_of_one_affinity_stay_with_one_host(hosts):
    def role():
        held = []

        def work(affinity):
            held.append(affinity)
            return os.getpid(), held[-2:]

        return work

    with ActorPool(hosts, 2, role, what="affinities", copy_after=1e9) as pool:
        for n in range(30):
            pool.submit(n, "ab"[n % 2], name="a letter", affinity="ab"[n % 2])
        hosts_of = defaultdict(set)
        for n, (pid, _) in drain(pool):
            hosts_of["ab"[n % 2]].add(pid)
    changes = sum(map(len, hosts_of.values())) - 2
    assert changes <= 1  # at the very end the one that is done helps the other


def test_a_silent_host_keeps_nobody_waiting(hosts, tmp_path):
    """SIGSTOP: the process neither answers nor dies; a copy of its call is made elsewhere."""

    def role(folder):
        def work(x):
            (folder / f"{x}-{os.getpid()}").touch()
            while x == 0 and not (folder / "go").exists():
                time.sleep(0.01)
            return x

        return work

    stopped = None
    with ActorPool(hosts, 2, role, (tmp_path,), what="numbers") as pool:
        for n in range(6):
            pool.submit(n, n, name=f"the number {n}")
        found = []
        while pool.unanswered:
            if stopped is None and (there := list(tmp_path.glob("0-*"))):
                stopped = int(there[0].name.split("-")[1])
                os.kill(stopped, signal.SIGSTOP)
                (tmp_path / "go").touch()
            if (answer := pool.poll(0.1)) is not None:
                found.append(answer[0])
    assert sorted(found) == list(range(6))
    assert len(list(tmp_path.glob("0-*"))) == 2
    # The next pool goes on with the other host, and hears nothing of what the silent one was at.
    with ActorPool(hosts, 2, square, what="squares") as pool:
        values = in_order(pool, [(n,) for n in range(5)], "a square")
        assert [value for value, _ in values] == [0, 1, 4, 9, 16]
        assert stopped not in {pid for _, pid in values}
    os.kill(stopped, signal.SIGKILL)


def test_where_there_is_no_room_for_another_host_the_others_go_on(ray_cluster, monkeypatch):
    with Hosts() as own, ActorPool(own, 2, square, what="squares") as pool:
        before = {pid for _, pid in in_order(pool, [(n,) for n in range(50)], "a square")}
        start = own._start
        monkeypatch.setattr(own, "_start", lambda gpu: start(True))  # there is no GPU
        os.kill(min(before), signal.SIGKILL)
        found = in_order(pool, [(n,) for n in range(50)], "a square")
        assert [value for value, _ in found] == [n * n for n in range(50)]


@pytest.mark.slow
def test_a_cluster_that_has_shrunk_gets_no_more_hosts_than_its_share(ray_cluster, monkeypatch):
    with Hosts() as own, ActorPool(own, 2, square, what="squares") as pool:
        before = {pid for _, pid in in_order(pool, [(n,) for n in range(50)], "a square")}
        monkeypatch.setattr(hosts_module, "resources", lambda: Resources(1, 0, 1, "local"))
        os.kill(min(before), signal.SIGKILL)

        def one_is_left():
            in_order(pool, [(n,) for n in range(4)], "a square")
            return len(pool) == 1

        eventually(one_is_left)


def test_no_host_at_all_ends_the_wait_with_advice(ray_cluster):
    set_timeout(1.0)
    try:
        with (
            Hosts() as own,
            ActorPool(own, 1, square, what="squares on a GPU", gpu=True) as pool,
            pytest.raises(UserError, match=r"waiting for squares on a GPU.*no progress for 1 s"),
        ):
            in_order(pool, [(1,)], "a square")
    finally:
        set_timeout(TIMEOUT)


def test_two_calls_in_flight_and_when_more_is_needed(hosts):
    with ActorPool(hosts, 1, square, what="squares", in_flight=2) as pool:
        assert pool.needs_work()
        for n in range(2):
            pool.submit(n, n, name="a square")
        assert not pool.needs_work()
        eventually(lambda: pool.poll(0.1) is not None)
        assert (pool.unanswered, pool.needs_work()) == (1, True)  # both were given out at once
        assert len(drain(pool)) == 1


def test_hosts_of_a_run_outlive_a_step_and_others_do_not(hosts):
    def is_up(pid):
        return psutil.pid_exists(pid) and not _zombie(pid)

    with borrowed(hosts) as given:
        assert given is hosts
    with borrowed(None) as own, ActorPool(own, 1, square, what="squares") as pool:
        [(_, pid)] = in_order(pool, [(3,)], "a square")
        assert is_up(pid)
    eventually(lambda: not is_up(pid))


def test_what_calls_of_one_affinity_share_is_sent_once_and_let_go_of(hosts, monkeypatch):
    def role():
        import ray

        held = {}

        def work(shared, affinity):
            if affinity not in held:
                held.clear()
                held[affinity] = ray.get(shared[0])
            return held[affinity]

        return work

    asked = []

    def shared(affinity):
        asked.append(affinity)
        return affinity * 3

    pool = ActorPool(hosts, 2, role, what="letters", shared=shared, copy_after=1e9)
    with pool:
        for turn in range(2):
            for n in range(12):
                pool.submit(n, "abc"[n % 3], name="a letter", affinity="abc"[n % 3])
            assert dict(drain(pool)) == {n: "abc"[n % 3] * 3 for n in range(12)}
            assert sorted(asked) == sorted("abc" * (turn + 1))  # anew, since it was let go of
            assert pool._sent == {}
