"""Run directories: nobody's files are written over or removed, and one process works at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.core.version import MARK
from zoo_search.run.directory import LOCK_SETTLE, OWNER, alone, claim
from zoo_search.run.pipeline import run


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run file whose step ``zoo`` takes a second and no Ray."""
    weights = tmp_path_factory.mktemp("weights") / "a.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("resnet10t", num_classes=10).state_dict(), weights)
    entry = {"arch": "resnet10t", "kwargs": {"num_classes": 10}, "weights": str(weights)}
    return {"name": "x", "input_size": 32, "zoo": {"a": entry}, "dataset": "digits"}


def tree(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def command(job: dict[str, Any], cwd: Path, place: str) -> subprocess.CompletedProcess[str]:
    (cwd / "job.yaml").write_text(yaml.safe_dump(job))
    return subprocess.run(
        [sys.executable, "-m", "zoo_search", "similarity", "job.yaml", "--dir", place],
        cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("place", [".", "thesis"])
def test_a_directory_with_other_things_is_refused(
    job: dict[str, Any], tmp_path: Path, place: str
) -> None:
    for name in ("grams/a.txt", "winners/0/letter.txt", "finetune/x.bin"):
        path = tmp_path / "thesis" / name
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    before = tree(tmp_path)
    done = command(job, tmp_path, place)
    assert done.returncode == 2
    assert "holds other things: " in done.stderr
    assert "Traceback" not in done.stderr
    assert tree(tmp_path) == before


def test_a_new_an_empty_and_a_used_directory_are_taken(job: dict[str, Any], tmp_path: Path) -> None:
    for place in (tmp_path / "new", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        (tmp_path / "empty" / ".gitkeep").touch()
        for _ in range(2):
            run(job, until="zoo", directory=str(place))
        assert json.loads((place / MARK).read_text())["format"] == 1
        assert not (place / OWNER).exists()
    (tmp_path / "new" / MARK).unlink()  # as a version without the mark left it
    run(job, until="zoo", directory=str(tmp_path / "new"))
    assert (tmp_path / "new" / MARK).exists()


@pytest.mark.parametrize("name", [MARK, "manifest.json"])
def test_a_later_format_is_refused_and_left_as_it_is(
    job: dict[str, Any], tmp_path: Path, name: str
) -> None:
    run(job, until="zoo", directory=str(tmp_path / "run"))
    path = tmp_path / "run" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99, "made_by": "9.0"}))
    before = tree(tmp_path / "run")
    with pytest.raises(UserError, match=r"Use th(at|e) version"):
        run(job, until="zoo", directory=str(tmp_path / "run"))
    assert tree(tmp_path / "run") == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "steps": [1]}'])
def test_a_damaged_manifest_is_one_paragraph(
    job: dict[str, Any], tmp_path: Path, text: str
) -> None:
    run(job, until="zoo", directory=str(tmp_path / "run"))
    (tmp_path / "run/manifest.json").write_text(text)
    with pytest.raises(UserError, match="remove this file: the steps will run again"):
        run(job, until="zoo", directory=str(tmp_path / "run"))
    (tmp_path / "run/manifest.json").unlink()
    run(job, until="zoo", directory=str(tmp_path / "run"))


HOLD = """
import sys, time
from zoo_search.core.store import RunStore
from zoo_search.run.directory import alone, claim
store = RunStore(sys.argv[1])
claim(store)
with alone(store):
    print("in", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that works in the directory ``run``."""
    place = str(tmp_path / "run")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, place], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    yield process
    process.kill()
    process.wait(20)


def test_two_processes_do_not_work_in_one_directory(
    job: dict[str, Any], tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    done = command(job, tmp_path, "run")
    assert done.returncode == 2
    assert f"process {holder.pid} on " in done.stderr
    assert not (tmp_path / "run/job.yaml").exists()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(20)
    assert (tmp_path / "run" / OWNER).exists()  # left by the dead
    run(job, until="zoo", directory=str(tmp_path / "run"))
    assert not (tmp_path / "run" / OWNER).exists()


def test_on_object_storage_the_living_are_respected_and_the_dead_are_not() -> None:
    store = RunStore(f"memory://{uuid.uuid4().hex}/run")
    claim(store)
    with alone(store):
        with pytest.raises(UserError, match=f"process {os.getpid()} on "), alone(store):
            pass
        assert store.exists(OWNER)  # who was sent away takes nothing along
        said = store.read_json(OWNER)
    assert not store.exists(OWNER)
    elsewhere = said | {"host": "elsewhere", "token": "dead"}
    store.write_json(OWNER, elsewhere | {"beat": time.time() - 299})
    with pytest.raises(UserError, match="on elsewhere"), alone(store):
        pass
    gone = said | {"process": 2**22 + 1, "token": "dead"}  # of this machine, with a fresh beat
    for dead in (elsewhere | {"beat": time.time() - 301}, gone, said | {"born": 0.0}):
        store.write_json(OWNER, dead)
        with alone(store):
            assert store.read_json(OWNER)["token"] != "dead"


def test_of_many_that_begin_at_once_on_object_storage_one_at_most_works() -> None:
    store = RunStore(f"memory://{uuid.uuid4().hex}/run")
    inside, most, refused = [0], [0], []
    gate = threading.Barrier(8)

    def work() -> None:
        gate.wait()
        try:
            with alone(store):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(2 * LOCK_SETTLE)
                inside[0] -= 1
        except UserError as error:
            refused.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 1
    assert len(refused) >= 7


def test_what_a_killed_process_left_unfinished_is_swept(
    job: dict[str, Any], tmp_path: Path
) -> None:
    place = tmp_path / "run"
    run(job, until="zoo", directory=str(place))
    for name in (".aside-0-x", "winners/.aside-1-0/model.safetensors", "grams/a/.aside-2-y"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("half")
    (place / "winners/0").mkdir()
    run(job, until="zoo", directory=str(place))
    assert not [path for path in place.rglob("*") if ".aside-" in path.name]
    assert (place / "winners/0").is_dir()


def test_the_digest_is_that_of_what_was_written(tmp_path: Path) -> None:
    """Not of what another process has put in its place meanwhile."""
    store = RunStore(str(tmp_path))
    store.write_text("a.txt", "ours")
    (tmp_path / "a.txt").write_text("theirs")
    store.record("s", "m", ["a.txt"], seconds=1)
    assert not store.is_current("s", "m")
    store.write_text("a.txt", "ours")
    assert store.is_current("s", "m")


def test_all_files_have_one_mode(job: dict[str, Any], tmp_path: Path) -> None:
    store = RunStore(str(tmp_path))
    with store.local_folder("w") as folder:
        save_file({"a": torch.zeros(2)}, folder / "model.safetensors")
        (folder / "x.txt").write_text("x")
    store.write_text("y.txt", "y")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert len(modes) == 1


def test_files_beside_ours_stay_when_a_folder_is_made_again(tmp_path: Path) -> None:
    store = RunStore(str(tmp_path))
    for text in ("1", "2"):
        with store.local_folder("w/0", own={"a.txt", "old.txt"}) as folder:
            (folder / "a.txt").write_text(text)
        (tmp_path / "w/0/notes.txt").write_text("mine")
        (tmp_path / "w/0/old.txt").touch()
    with store.local_folder("w/0", own={"a.txt", "old.txt"}) as folder:
        (folder / "a.txt").write_text("3")
    assert tree(tmp_path / "w/0") == {"a.txt": b"3", "notes.txt": b"mine"}
    store.remove("w/0", own={"a.txt", "old.txt"})
    assert tree(tmp_path / "w/0") == {"notes.txt": b"mine"}


def test_a_finished_run_is_read_where_nobody_may_write(job: dict[str, Any], tmp_path: Path) -> None:
    run(job, until="zoo", directory=str(tmp_path / "run"))
    before = tree(tmp_path)
    code = (
        "import json, sys\nfrom zoo_search.core.errors import UserError\n"
        "from zoo_search.run.pipeline import run\n"
        "for place in sys.argv[2:]:\n"
        "  try: run(json.loads(sys.argv[1]), until='zoo', directory=place, say=print)\n"
        "  except UserError as error: print('refused:', error)"
    )
    # Root may write anywhere, but for its capability to.
    rights = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    if rights and shutil.which("setpriv") is None:
        pytest.skip("root without setpriv may write anywhere")
    places = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    for place in places:
        place.chmod(0o555)
    try:
        done = subprocess.run(
            [*rights, sys.executable, "-c", code, json.dumps(job),
             str(tmp_path / "run"), str(tmp_path / "other")],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    finally:
        for place in places:
            place.chmod(0o755)
    assert done.returncode == 0, done.stderr
    current, refused = done.stdout.splitlines()
    assert current == "zoo: up to date, skipped"
    assert refused.startswith("refused: ")
    assert "cannot be written (Permission denied)" in refused
    assert tree(tmp_path) == before


def test_of_two_that_begin_a_new_directory_at_once_one_works(tmp_path: Path) -> None:
    """The second has seen an empty directory, and comes when the first is at work."""
    place = str(tmp_path / "run")
    inside: list[RunStore] = []

    class Late(RunStore):
        def list(self, folder: str) -> list[str]:
            found = super().list(folder)
            if not inside:
                held.enter_context(working())
            return found

    @contextlib.contextmanager
    def working() -> Iterator[None]:
        first = RunStore(place)
        claim(first)
        with alone(first):
            inside.append(first)
            yield

    with contextlib.ExitStack() as held:
        late = Late(place)
        claim(late)
        assert len(inside) == 1
        with pytest.raises(UserError, match="is at work"), alone(late):
            pass
    with alone(RunStore(place)):
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == [MARK]


@pytest.mark.parametrize("name", ["winners", "winners/0", "grams/a", "finetune", "logs/x.db"])
def test_no_link_leads_out_of_a_run_directory(
    job: dict[str, Any], tmp_path: Path, name: str
) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "0").mkdir(parents=True)
    (theirs / "0/README.md").write_text("not ours")
    RunStore(str(tmp_path / "run")).write_json(MARK, {"format": 1, "made_by": "1"})
    (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "run" / name).symlink_to(theirs / "0/README.md" if "." in name else theirs)
    with pytest.raises(UserError, match=f"{name} is a link to "):
        run(job, until="zoo", directory=str(tmp_path / "run"))
    assert tree(theirs) == {"0/README.md": b"not ours"}
    assert not (tmp_path / "run/job.yaml").exists()


def test_no_study_is_written_through_a_link(job: dict[str, Any], tmp_path: Path) -> None:
    """A last line without its end would be cut off there."""
    (tmp_path / "thesis.txt").write_text("one line\nand another")
    RunStore(str(tmp_path / "run")).write_json(MARK, {"format": 1, "made_by": "1"})
    (tmp_path / "run/study.journal").symlink_to(tmp_path / "thesis.txt")
    done = command(job, tmp_path, "run")
    assert done.returncode == 2
    assert "study.journal is a link to " in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "one line\nand another"


def test_links_of_the_users_own_stay(job: dict[str, Any], tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    RunStore(str(tmp_path / "run")).write_json(MARK, {"format": 1, "made_by": "1"})
    for name in ("winners/0/data", "exports/0"):
        (tmp_path / "run" / name).parent.mkdir(parents=True)
        (tmp_path / "run" / name).symlink_to(theirs)
    (tmp_path / "link").symlink_to(tmp_path / "run")  # the whole directory may be one
    run(job, until="zoo", directory=str(tmp_path / "link"))
    assert (tmp_path / "run/winners/0/data").is_symlink()


@pytest.mark.parametrize("name", [MARK, "manifest.json", "job.yaml", "zoo.json"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "deep"])
def test_what_is_no_file_is_one_paragraph(
    job: dict[str, Any], tmp_path: Path, name: str, kind: str
) -> None:
    run(job, until="zoo", directory=str(tmp_path / "run"))
    path = tmp_path / "run" / name
    path.unlink()
    if kind == "deep":
        path.write_text("[" * 100_000)
    else:
        path.mkdir() if kind == "folder" else os.mkfifo(path)
    if kind == "deep" and name in ("job.yaml", "zoo.json"):  # made anew
        run(job, until="zoo", directory=str(tmp_path / "run"))
        return
    with pytest.raises(UserError, match=name):
        run(job, until="zoo", directory=str(tmp_path / "run"))


def test_only_our_own_names_are_removed(tmp_path: Path) -> None:
    from zoo_search.finetune.race.records import forget_others
    from zoo_search.finetune.trained import forget_scratch
    from zoo_search.networks.stitch_files import StitchFiles
    from zoo_search.run.directory import sweep
    from zoo_search.similarities.passes.gram_folder import clean

    key, mine = "0123456789abcdef", {}
    for name in (
        "grams/a/notes.txt", "grams/mine/copy.parquet", "stitches/notes.txt", "race/notes/x.txt",
        "finetune/notes.txt", ".aside-notes.txt", "exports/.aside-mine/x.txt",
    ):  # fmt: skip
        mine[name] = b"mine"
    ours = (
        "grams/a/000009.parquet", "grams/old/000000.parquet", f"stitches/{key * 2}.safetensors",
        f"race/{key}/000001.json", f"finetune/{key}/sums.json", "finetune/failed/x.json",
        ".aside-0a1b-x",
    )  # fmt: skip
    for name in (*mine, *ours):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    store = RunStore(str(tmp_path))
    sweep(store)
    clean(store, ["a"], 1)
    StitchFiles(store, {}, "").sweep()
    forget_others(store, [])
    forget_scratch(store)
    assert tree(tmp_path) == mine
