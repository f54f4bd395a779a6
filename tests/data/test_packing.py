"""A killed pack is gone on with; a folder of other things is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_images import write_images
from small_packs import TINY, files, folder

from zoo_search.config import DatasetConfig
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.data import open_dataset
from zoo_search.data.pack import pack


def test_kill_9_and_go_on(tmp_path: Path, split_pets: Path) -> None:
    code = f"""
import sys, time
from zoo_search.config import DatasetConfig
from zoo_search.data.pack import pack
from zoo_search.data.tar_writer import TarWriter

add = TarWriter.add

def slow(self, *args):
    time.sleep(0.02)
    return add(self, *args)

TarWriter.add = slow
pack(DatasetConfig(name="folder", path={str(split_pets)!r}), sys.argv[1], shard_mb={TINY})
"""
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", code, str(out)], stderr=subprocess.DEVNULL) as one:
        while len(list(out.glob("parts/*.parquet"))) < 2 or not list(out.glob(".aside-*")):
            assert one.poll() is None
            time.sleep(0.005)
        os.kill(one.pid, signal.SIGKILL)
    assert not (out / "index.parquet").exists()
    with pytest.raises(UserError, match=r"has not finished\. Give the same command again"):
        open_dataset(DatasetConfig(name="webdataset", path=str(out)))
    before = {p.name: p.stat() for p in out.glob("*.tar")}
    done = pack(folder(split_pets), out, shard_mb=TINY)
    assert 2 <= done.kept < done.shards
    kept = [f"train-{i:06d}.tar" for i in range(done.kept)]
    assert all(before[name].st_ino == (out / name).stat().st_ino for name in kept)
    pack(folder(split_pets), tmp_path / "whole", shard_mb=TINY)
    assert files(out) == files(tmp_path / "whole")


def test_dying_at_any_write_costs_one_shard(
    tmp_path: Path, split_pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pack(folder(split_pets), tmp_path / "whole", shard_mb=2.5 * TINY)
    expected = files(tmp_path / "whole")
    opens = RunStore.open

    class DeadError(Exception):
        pass

    for after in (False, True):
        for fatal in range(2 + 2 * whole.shards + 2):
            count = iter(range(1000))

            @contextmanager
            def dying(
                self: RunStore, name: str, mode: str = "rb", count=count, fatal=fatal, after=after
            ) -> Iterator[object]:
                dies = mode == "wb" and next(count) == fatal
                with opens(self, name, mode) as stream:  # type: ignore[arg-type]
                    yield stream
                    if dies and not after:
                        raise DeadError
                if dies:
                    raise DeadError

            out = tmp_path / f"out-{fatal}-{after}"
            with monkeypatch.context() as patch:
                patch.setattr(RunStore, "open", dying)
                with pytest.raises(DeadError):
                    pack(folder(split_pets), out, shard_mb=2.5 * TINY)
            pack(folder(split_pets), out, shard_mb=2.5 * TINY)
            assert files(out) == expected


def test_a_shard_that_is_gone_is_made_again(tmp_path: Path, split_pets: Path) -> None:
    pack(folder(split_pets), tmp_path / "out", shard_mb=TINY)
    expected = files(tmp_path / "out")
    (tmp_path / "out/train-000001.tar").unlink()
    (tmp_path / "out/.aside-12-train-000001.tar").write_bytes(b"half")
    (tmp_path / "out/train-000099.tar").write_bytes(b"of nobody")
    pack(folder(split_pets), tmp_path / "out", shard_mb=TINY)
    assert files(tmp_path / "out") == expected


def test_a_stopped_pack_of_three_splits_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "three", {f"{part}/a": 30 for part in ("train", "val", "test")})
    whole = pack(folder(tmp_path / "three"), tmp_path / "whole", shard_mb=TINY)
    with monkeypatch.context() as patch:
        patch.setattr("zoo_search.data.packing.Packing.end", lambda packing: None)
        pack(folder(tmp_path / "three"), tmp_path / "out", shard_mb=TINY)
    assert len(list((tmp_path / "out/parts").glob("validation-*"))) > 1
    (tmp_path / "out/validation-000001.tar").unlink()
    later = sum(p.name > "validation-000001.tar" for p in (tmp_path / "out").glob("validation-*"))
    done = pack(folder(tmp_path / "three"), tmp_path / "out", shard_mb=TINY)
    assert done.kept == whole.shards - 1 - later
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    again = pack(folder(tmp_path / "three"), tmp_path / "out", shard_mb=TINY)
    assert (again.kept, again.splits) == (whole.shards, whole.splits)


def test_a_shard_that_was_changed_since_is_not_kept(tmp_path: Path, split_pets: Path) -> None:
    out = tmp_path / "out"
    whole = pack(folder(split_pets), out, shard_mb=TINY)
    expected = files(out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo_search.data.packing.Packing.end", lambda packing: None)
        (out / "index.parquet").unlink()
        pack(folder(split_pets), out, shard_mb=TINY)
    assert len(list(out.glob("parts/*"))) == whole.shards
    (out / "train-000002.tar").write_bytes(b"cut")
    assert pack(folder(split_pets), out, shard_mb=TINY).kept == whole.shards - 1 - (
        sum(p.name > "train-000002.tar" for p in out.glob("train*"))
    )
    assert files(out) == expected


def test_other_things_and_other_packs_are_refused(tmp_path: Path, pets: Path) -> None:
    with pytest.raises(UserError, match=r"holds other things: cat/0\.png, .* and 30 more"):
        pack(folder(pets), pets)
    assert not (pets / "pack.json").exists()
    out = tmp_path / "out"
    out.mkdir()
    (out / "pack.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"holds other things: pack\.json"):
        pack(folder(pets), out)
    (out / "pack.json").unlink()
    pack(folder(pets), out)
    with pytest.raises(UserError, match=r"another --seed, --shard-mb, --resize\. Give the"):
        pack(folder(pets), out, seed=1, shard_mb=1, resize=8)
    (pets / "cat/0.png").write_bytes((pets / "cat/1.png").read_bytes())
    with pytest.raises(UserError, match=r"another data set\. Give the"):
        pack(folder(pets), out)
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"holds other things: notes\.txt"):
        pack(folder(pets), out)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, pets: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"OUT: .*file/out cannot be written"):
        pack(folder(pets), tmp_path / "file/out")
    with pytest.raises(UserError, match="OUT: nope://x cannot be opened"):
        pack(folder(pets), "nope://x")
