"""Ray's files lie at a short path, whatever TMPDIR says, and in nobody else's folder."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo_search.cluster import temporary
from zoo_search.core.errors import UserError

NAME = f"zoo-search-{os.geteuid()}"


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder like /tmp."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o1777)
        monkeypatch.setattr(temporary, "_PARENTS", (place,))
        yield Path(place)


def mode(place: Path) -> int:
    return stat.S_IMODE(place.lstat().st_mode)


def test_the_limit_is_that_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket below the longest folder that is allowed can be bound, one more byte is too much."""
    monkeypatch.chdir(tmp_path)
    below = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.99"
    folder = Path("/tmp") / ("x" * (temporary.MOST - len("/tmp/")))
    assert len(f"{folder}{below}") == (103 if sys.platform == "darwin" else 107)
    with socket.socket(socket.AF_UNIX) as one, pytest.raises(FileNotFoundError):
        one.bind(f"{folder}{below}")  # the folder is not there; the path is no problem
    with socket.socket(socket.AF_UNIX) as one, pytest.raises(OSError, match="too long"):
        one.bind(f"{folder}x{below}")
    assert not temporary.is_too_long(str(folder))
    assert temporary.is_too_long(f"{folder}x")
    assert temporary.is_too_long("/tmp/" + "ü" * ((temporary.MOST - 4) // 2 + 1))


def test_what_the_user_chose_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/scratch/job")
    assert temporary.configured() == "/scratch/job"
    monkeypatch.setenv("RAY_TMPDIR", "/r")
    assert temporary.configured() == "/r"


def test_the_folder_is_private_and_taken_again(parent: Path) -> None:
    first = temporary.short_folder()
    assert first == parent / NAME
    assert mode(first) == 0o700
    assert temporary.short_folder() == first


@pytest.mark.parametrize("trap", ["link", "open", "file", "others"])
def test_what_somebody_else_put_there_is_left_alone(
    parent: Path, trap: str, tmp_path: Path
) -> None:
    place = parent / NAME
    if trap == "link":
        (tmp_path / "theirs").mkdir(0o700)
        place.symlink_to(tmp_path / "theirs")
    elif trap == "file":
        place.write_text("x")
    else:
        place.mkdir(0o700)
        if trap == "open":
            place.chmod(0o770)
        elif os.geteuid() == 0:
            os.chown(place, 12345, -1)
        else:
            pytest.skip("only root can make a folder somebody else's")
    found = temporary.short_folder()
    assert found != place
    assert found.parent == parent
    assert mode(found) == 0o700
    assert found.lstat().st_uid == os.geteuid()


def test_a_parent_in_which_anybody_renames_is_none(parent: Path) -> None:
    parent.chmod(0o777)
    with pytest.raises(UserError, match="Set RAY_TMPDIR to a folder with a short path"):
        temporary.short_folder()


@pytest.mark.slow
def test_ray_starts_whatever_tmpdir_says(private_home: Path, tmp_path: Path) -> None:
    """As SLURM sets it; the doctor starts a real Ray."""
    long = tmp_path / ("scratch-of-a-batch-job-" * 5) / "job"
    long.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", "zoo_search", "doctor", "--json"],
        capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "TMPDIR": str(long)},
    )  # fmt: skip
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert checks["ray cluster"]["state"] == "ok", checks["ray cluster"]
    told = checks["temporary files"]
    assert told["state"] == "note"
    assert str(long) in told["found"]
    assert f"/tmp/{NAME}" in told["cure"]
    assert "note: " in done.stderr
    assert "too long for Ray's sockets" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert (Path("/tmp") / NAME / "ray/session_latest").exists()
