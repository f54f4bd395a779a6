"""A job's log is told once, line by line, whatever becomes of the connection."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from job_server import JobServer, Tunnel, lines

from zoo_search.cluster.jobs import following, listing, server
from zoo_search.cluster.jobs.following import Follower, log_of
from zoo_search.core.errors import UserError


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[JobServer]:
    monkeypatch.setattr(following, "_FIRST", 0.05)
    monkeypatch.setattr(following, "_LONGEST", 0.2)
    made = JobServer()
    made.start()
    yield made
    made.stop()


class Followed(threading.Thread):
    """Follows in a thread of its own."""

    def __init__(self, there: JobServer, **options: float) -> None:
        super().__init__(daemon=True)
        self.written: list[str] = []
        self.said: list[str] = []
        self.state: str | None = None
        self.error: BaseException | None = None
        client = server.reach(there.address)
        self.follower = Follower(
            client, there.address, there.name, self.written.append, self.said.append, **options
        )
        self.start()

    def run(self) -> None:
        try:
            self.state = self.follower.follow()
        except BaseException as error:
            self.error = error

    def until(self, done: Callable[[], bool], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, (self.written, self.said, self.error)
            time.sleep(0.01)


def test_a_log_is_told_to_its_end(there: JobServer) -> None:
    there.grow("one\ntwo\nthree wi")
    followed = Followed(there)
    followed.until(lambda: lines(followed.written) == ["one", "two"])
    there.grow("th its end\nand one without", "FAILED", 2)
    followed.join(20)
    assert lines(followed.written) == ["one", "two", "three with its end", "and one without"]
    assert (followed.state, followed.said) == ("FAILED", [])


@pytest.mark.parametrize("lasts", [0.1, 1.0])
def test_no_line_is_told_twice_after_a_break(there: JobServer, lasts: float) -> None:
    there.grow("one\ntwo\nbroken in the mid")
    followed = Followed(there)
    followed.until(lambda: followed.follower._rest == "broken in the mid")
    for more in ("dle\nthree\n", "four\n"):
        there.stop()
        followed.until(lambda: len(followed.said) % 2 == 1)  # it says that it broke
        time.sleep(lasts)
        there.grow(more)
        there.start()
        followed.until(lambda: len(followed.said) % 2 == 0)  # and that it is there again
    there.grow("five\n", "SUCCEEDED", 0)
    followed.join(20)
    expected = ["one", "two", "broken in the middle", "three", "four", "five"]
    assert lines(followed.written) == expected
    assert followed.state == "SUCCEEDED"
    assert "the job runs on, and it is tried again for 10 min" in followed.said[0]
    assert followed.said[1] == "connected again"


def test_a_tunnel_that_is_cut_and_mended(there: JobServer) -> None:
    """The server goes on; what leads there, an ssh -L, is gone for a while."""
    tunnel, written, said = Tunnel(there.port), list[str](), list[str]()

    def write(text: str) -> None:
        written.append(text)
        if "two" in text:
            tunnel.cut()
            there.grow("three\nfour\n", "FAILED", 7)
            threading.Timer(0.3, tunnel.mend).start()

    client = server.reach(tunnel.address)
    there.grow("one\ntwo\nthr")
    there.grow("ee and more\n")
    follower = Follower(client, tunnel.address, "digits", write, said.append)
    assert follower.follow() == "FAILED"
    assert lines(written) == ["one", "two", "three and more", "three", "four"]
    assert len(said) == 2


def test_a_log_that_ends_before_its_job_is_asked_for_again(there: JobServer) -> None:
    """As where the process of the dashboard that serves it ends in good order."""
    there.ends_cleanly = True
    there.grow("one\n")
    followed = Followed(there)
    followed.until(lambda: there.tails >= 3)
    there.grow("two\n", "STOPPED")
    followed.join(20)
    assert lines(followed.written) == ["one", "two"]
    assert (followed.state, followed.said) == ("STOPPED", [])


def test_it_is_given_up_after_a_while(there: JobServer) -> None:
    there.grow("one\n")
    followed = Followed(there, give_up=0.5)
    followed.until(lambda: bool(followed.written))
    there.stop()
    followed.join(20)
    there.start()
    told = str(followed.error)
    assert isinstance(followed.error, UserError)
    assert "did not answer for" in told
    assert f"zoo-search logs digits --follow --address {there.address}" in told


def test_a_server_that_falls_silent_is_noticed(
    there: JobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that was cut without a word: nothing ends, nothing comes."""
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    there.grow("one\n")
    followed = Followed(there, quiet=0.1)
    followed.until(lambda: bool(followed.written))
    there.hangs = True
    followed.until(lambda: bool(followed.said))
    assert "no answer within 0.2 s" in followed.said[0]
    there.hangs = False
    there.grow("two\n", "SUCCEEDED")
    followed.join(20)
    assert lines(followed.written) == ["one", "two"]


def test_what_cannot_be_written_is_no_broken_connection(there: JobServer) -> None:
    """As in ``zoo-search logs JOB --follow | head``."""

    def write(text: str) -> None:
        raise BrokenPipeError

    there.grow("one\n")
    said: list[str] = []
    follower = Follower(server.reach(there.address), there.address, "digits", write, said.append)
    with pytest.raises(BrokenPipeError):
        follower.follow()
    assert said == []


@pytest.fixture
def as_at_a_terminal() -> Iterator[None]:
    """SIGINT as an ordinary process hears it, whatever started the tests and ran before."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("as_at_a_terminal")
def test_ctrl_c_ends_the_following_at_once(there: JobServer) -> None:
    there.grow("one\n")
    follower = Follower(
        server.reach(there.address), there.address, "digits",
        lambda text: signal.raise_signal(signal.SIGINT), print,
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        follower.follow()
    assert there.state == "RUNNING"


def test_a_job_that_is_gone_is_told(there: JobServer) -> None:
    there.grow("one\n")
    followed = Followed(there)
    followed.until(lambda: bool(followed.written))
    there.stop()
    there.name = "another"  # as after another start of the cluster
    there.start()
    followed.join(20)
    assert "has no job digits any more" in str(followed.error)


@pytest.mark.parametrize(("token", "said"), [(None, "is missing"), ("wrong", "is another one")])
def test_a_token_is_asked_for_in_words(
    there: JobServer, monkeypatch: pytest.MonkeyPatch, token: str | None, said: str
) -> None:
    """Ray's client takes the token from its own start; here it is put into its requests."""
    client = server.reach(there.address)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    client._headers = headers
    there.token = "right"
    for call in (
        lambda: listing.jobs_of(client, there.address),
        lambda: log_of(client, there.address, "digits"),
        lambda: Follower(client, there.address, "digits", print, print).follow(),
    ):
        with pytest.raises(UserError, match=f"only those who have its token, .* {said}") as caught:
            call()
        assert "RAY_AUTH_TOKEN_PATH" in str(caught.value)


@pytest.mark.parametrize("address", ["HOST:6379", "auto", "ray://h:10001", ""])
def test_an_address_of_no_job_server(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match="http://HEAD:8265"):
        server.address_of(None)
    assert server.address_of("http://h:1/") == "http://h:1"
    monkeypatch.setenv("RAY_ADDRESS", "http://h:2")
    assert server.address_of(None) == "http://h:2"


def test_the_address_that_is_given_counts(
    there: JobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself would take the one of its variable."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert listing.jobs_of(server.reach(there.address), there.address)[0].name == "digits"


def test_an_address_where_nobody_answers(there: JobServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"No Ray job server answers at http://127\.0\.0\.1:9 "):
        server.reach("http://127.0.0.1:9")
    there.hangs = True
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    with pytest.raises(UserError, match=r"no answer within 0\.2 s"):
        server.reach(there.address)


def test_jobs_are_told_without_keys(there: JobServer) -> None:
    client = server.reach(there.address)
    (job,) = listing.jobs_of(client, there.address)
    assert job.command == "zoo-search run x.yaml --dir s3://***@bucket/x"
    assert (job.directory, job.given, job.ended) == ("/shared/x", "digits", False)
    row = listing.table([job], there.address).rows[0]
    assert str(row["began"]).endswith(" ago")
    with pytest.raises(UserError, match=r"no job 'digit'\. Did you mean 'digits'\?"):
        listing.find([job], "digit", there.address)


def job(name: str, state: str, since: float, given: str | None = "digits") -> listing.Job:
    return listing.Job(name, given, state, since, None, None, "", None, "")


def test_names_of_jobs() -> None:
    at = "http://h"
    assert listing.free_name([], "digits", at) == "digits"
    first = job("digits", "FAILED", 1)
    assert listing.free_name([first], "digits", at) == "digits-2"
    second = job("digits-2", "STOPPED", 2)
    assert listing.free_name([second, first], "digits", at) == "digits-3"
    assert listing.later([second, first], first) == second
    assert listing.later([second, first], second) is None
    running = job("digits-2", "RUNNING", 2)
    with pytest.raises(UserError, match="has a job of that name, and it is running"):
        listing.free_name([running, first], "digits", at)
    assert listing.free_name([job("other", "RUNNING", 1, "other")], "digits", at) == "digits"
    for wrong in ("", "a b", "../x", "-x", "x" * 101, "ä"):
        with pytest.raises(UserError, match="a job's name has letters"):
            listing.free_name([], wrong, at)
