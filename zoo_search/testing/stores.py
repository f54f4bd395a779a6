"""What every store of a run's artifacts keeps to, wherever its files lie."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from zoo_search.core.store import RunStore

# Without * ? [, which fsspec takes for patterns: what is named by a user is escaped beforehand.
NAMES = (
    "plain.txt",
    "deep/er/and deeper.bin",
    "grüße/θ_模型.json",
    "a%2Fb%3A%20c/000001.parquet",
    "#hash & 'quotes' = 50 %, all/x",
    ".hidden",
)


class StoreContract:
    """Derive from this, give the fixture ``open_store``, and run pytest.

    A store of one's own is usually a :class:`~zoo_search.core.store.RunStore` on a file system of
    fsspec; it may be anything with the same methods.
    """

    @pytest.fixture
    def open_store(self) -> Callable[[], RunStore]:
        """What opens the store; always the same, empty when the test begins."""
        raise NotImplementedError("give the fixture 'open_store'")

    @pytest.fixture
    def store(self, open_store: Callable[[], RunStore]) -> RunStore:
        """The store under test."""
        return open_store()

    @pytest.mark.parametrize("name", NAMES)
    def test_what_is_written_is_read(self, store: RunStore, name: str) -> None:
        """At once, byte for byte, under any name; written again, it is replaced."""
        for data in (bytes(range(256)) * 50, b"", b"short\r\n"):
            store.write_bytes(name, data)
            assert store.exists(name)
            _assert_same(store.read_bytes(name), data)
        folder, _, last = name.rpartition("/")
        assert store.list(folder) == [last]

    def test_texts_are_utf_8(self, store: RunStore) -> None:
        """On every machine."""
        store.write_text("x.txt", "grüße, 模型\n")
        assert store.read_text("x.txt") == "grüße, 模型\n"
        assert store.read_bytes("x.txt") == "grüße, 模型\n".encode()

    def test_json_comes_back_as_it_went(self, store: RunStore) -> None:
        """Numbers to the last digit; what JSON has no word for is refused, and nothing is left."""
        value: object = {
            "ü": [1, 0.1, 1e300, -1e-300, 2**53 + 1],
            "none": None,
            "deep": {"a": [[]]},
        }
        store.write_json("x.json", value)
        assert store.read_json("x.json") == value
        for number in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match="JSON"):
                store.write_json("y.json", {"score": number})
        assert store.list("") == ["x.json"]

    def test_another_process_sees_what_is_written(
        self, store: RunStore, open_store: Callable[[], RunStore]
    ) -> None:
        """Also where it has looked before."""
        other = open_store()
        assert not other.exists("a/x")
        assert other.list("a") == []
        store.write_text("a/x", "1")
        assert other.exists("a/x")
        assert other.list("a") == ["x"]
        store.write_text("a/x", "two")
        assert other.read_text("a/x") == "two"
        store.remove("a/x")
        assert not other.exists("a/x")

    def test_a_writer_that_raises_leaves_the_old_bytes(self, store: RunStore) -> None:
        """And nothing else: no half, no file aside."""
        store.write_text("x", "old")
        for name in ("x", "folder/new"):
            with pytest.raises(KeyboardInterrupt), store.open(name, "wb") as stream:
                _break_off(stream.write, b"half of the n")
        assert store.read_text("x") == "old"
        assert not store.exists("folder/new")
        assert store.list("folder") == []
        assert set(store.list("")) <= {"x", "folder"}

    def test_a_reader_never_sees_half(
        self, store: RunStore, open_store: Callable[[], RunStore]
    ) -> None:
        """While a writer is at it, there is the old artifact or none."""
        other = open_store()
        with store.open("x", "wb") as stream:
            stream.write(b"first half, ")
            stream.flush()
            assert not other.exists("x")
            assert other.list("") == []
            stream.write(b"second half")
        assert other.read_bytes("x") == b"first half, second half"
        with store.open("x", "wb") as stream:
            stream.write(b"new")
            stream.flush()
            assert other.read_bytes("x") == b"first half, second half"

    def test_readers_and_writers_do_not_mix(
        self, store: RunStore, open_store: Callable[[], RunStore]
    ) -> None:
        """Whoever reads while others write gets one of the things that were written, whole."""
        contents = {bytes([i]) * 200_000 for i in range(4)}
        store.write_bytes("x", next(iter(contents)))
        left = threading.Barrier(len(contents) + 1)

        def write(data: bytes) -> None:
            mine = open_store()
            left.wait(timeout=60)
            for _ in range(8):
                mine.write_bytes("x", data)

        writers = [threading.Thread(target=write, args=(data,)) for data in contents]
        for writer in writers:
            writer.start()
        left.wait(timeout=60)
        seen = [store.read_bytes("x") for _ in range(24)]
        for writer in writers:
            writer.join(timeout=60)
        whole = [data in contents for data in (*seen, store.read_bytes("x"))]
        assert all(whole)
        assert store.list("") == ["x"]

    def test_what_is_missing_is_named(self, store: RunStore) -> None:
        """Reading it is an error; to list or to remove it is none."""
        with pytest.raises(OSError, match=r"no[/\\]such\.bin"):
            store.read_bytes("no/such.bin")
        with pytest.raises(OSError, match=r"no[/\\]such\.bin"), store.open("no/such.bin"):
            pass
        assert not store.exists("no/such.bin")
        assert store.list("no") == []
        store.remove("no/such.bin")

    def test_a_folder_is_there_whole_or_not_at_all(
        self, store: RunStore, open_store: Callable[[], RunStore]
    ) -> None:
        """Made locally, put in place at the end; a new one takes the place of all of the old."""
        other = open_store()
        with pytest.raises(KeyboardInterrupt), store.local_folder("w/0") as folder:
            _break_off((folder / "one").write_bytes, b"1")
        assert not other.exists("w/0")
        assert other.list("w/0") == []
        with store.local_folder("w/0") as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "ü").write_bytes(b"deep")
            (folder / "one").write_bytes(b"1")
            assert not other.exists("w/0")
        assert other.exists("w/0")
        assert other.list("w/0") == ["one", "sub"]
        assert other.read_bytes("w/0/sub/ü") == b"deep"
        with pytest.raises(KeyboardInterrupt), store.local_folder("w/0") as folder:
            raise KeyboardInterrupt
        assert other.list("w/0") == ["one", "sub"]
        with store.local_folder("w/0") as folder:
            assert not list(folder.iterdir())
            (folder / "two").write_bytes(b"2")
        assert other.list("w/0") == ["two"]
        assert other.list("w") == ["0"]

    def test_a_folder_is_removed_whole(self, store: RunStore) -> None:
        """With all that is in it, and nothing beside it."""
        with store.local_folder("w/0") as folder:
            (folder / "one").write_bytes(b"1")
        store.write_text("w/01", "beside")
        store.remove("w/0")
        assert not store.exists("w/0")
        assert not store.exists("w/0/one")
        assert store.list("w") == ["01"]

    def test_a_local_copy_is_the_artifact(self, store: RunStore) -> None:
        """For what reads paths only: a file or a folder, under its own name."""
        store.write_bytes("a/x.parquet", b"bytes")
        with store.local_copy("a/x.parquet") as path:
            assert path.name == "x.parquet"
            assert path.read_bytes() == b"bytes"
        with store.local_folder("w/0") as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "one").write_bytes(b"1")
        with store.local_copy("w/0") as path:
            assert (path / "sub" / "one").read_bytes() == b"1"
        assert store.read_bytes("a/x.parquet") == b"bytes"

    def test_a_digest_sees_names_and_bytes_and_nothing_else(self, store: RunStore) -> None:
        """So a run that is copied to another store is still up to date."""
        store.write_text("f/a", "1")
        first = store.digest("f")
        store.write_text("f/a", "1")
        assert store.digest("f") == first
        store.write_text("f/b", "2")
        second = store.digest("f")
        store.write_text("f/b", "3")
        store.write_text("g/a", "1")
        assert store.digest("g") == first
        store.remove("g/a")
        store.write_text("g/c", "1")
        assert len({first, second, store.digest("f"), store.digest("g")}) == 4

    def test_a_step_is_current_until_its_inputs_or_artifacts_change(
        self, store: RunStore, open_store: Callable[[], RunStore]
    ) -> None:
        """The manifest is how a run that goes on knows what need not be made again."""
        store.write_text("out.txt", "result")
        assert not store.is_current("step", "h1")
        store.record("step", "h1", ["out.txt"], seconds=1.0)
        other = open_store()
        assert other.is_current("step", "h1")
        assert not other.is_current("step", "h2")
        before = other.result_of("step")
        store.write_text("out.txt", "touched")
        assert not other.is_current("step", "h1")
        store.record("step", "h1", ["out.txt"], seconds=1.0)
        assert other.result_of("step") != before
        store.remove("out.txt")
        assert not other.is_current("step", "h1")


def _assert_same(read: bytes, written: bytes) -> None:
    """Where CI is set in the environment, pytest compares line by line: minutes for long bytes."""
    first = next((i for i, (a, b) in enumerate(zip(read, written, strict=False)) if a != b), None)
    if first is None and len(read) != len(written):
        first = min(len(read), len(written))
    assert first is None, f"{len(read)} bytes read, {len(written)} written: other at {first}"


def _break_off(write: Callable[[bytes], object], data: bytes) -> None:
    """Write, and die."""
    write(data)
    raise KeyboardInterrupt
