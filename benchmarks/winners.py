"""Does reassembly pay? Whole runs on small real targets, against all that one could do instead.

Six targets (:mod:`winners_data`) by two budgets (:mod:`winners_jobs`), each an ordinary run of
zoo-search over the three EfficientNet-Lites with their ImageNet weights and five small specialists
of other families that were trained on another of the sets. What is compared, each by its accuracy
on up to 1,000 test images, over all trainings (seeds, each with other images held out):

reassembly      the best reassembly of the run
single          the best zoo model within the budget
random          the best random recipe within it
logme, leep     the zoo model within the budget that this score puts first
dpiat           a plain architecture of that cost, from DPIAT's weights
scratch         the same from random weights
random weights  the architecture of the best reassembly from random weights, with the epochs of
                both protocols: is it the architecture or the weights (DeRy section 4.1)?
ensemble        the mean of what the two best single models say; it costs as much as both

"Best" is always by the validation images of the trainings; test images choose nothing. Differences
are paired over test images and trainings (:mod:`zoo_search.report.comparison`), with 95 %
confidence.

python benchmarks/winners.py --only digits-20 --budget small --out winners.jsonl
python benchmarks/winners.py --out winners.jsonl --seeds 5     # all settings
python benchmarks/winners.py --summary winners.jsonl

Killed at any time, it goes on with what is missing: a line for each setting that is done, and the
run directories (``--runs``) for the one in work. The letters need fonts: ``winners_data.py`` says
which packages.

With three seeds a setting of 200 labelled images takes about 20 minutes of a CPU, one of 50 about
10 (the summary tells); to pre-train the specialists takes some 20 more, once for all settings.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml
from winners_compare import Comparison
from winners_data import register
from winners_jobs import BUDGETS, TARGETS, job_of, read_changes
from winners_summary import summary

from zoo_search import cluster
from zoo_search.core.files import cache_folder
from zoo_search.run.pipeline import run

Row = dict[str, Any]


class Spent:
    """Seconds of the wall clock and of all CPUs of this process and its children, over restarts."""

    def __init__(self, place: Path) -> None:
        self._place = place
        known = json.loads(place.read_text("utf-8")) if place.exists() else {}
        self._before = {"wall": 0.0, "cpu": 0.0, **known}
        self._start, self._first = time.monotonic(), self._now()
        self._last = dict(self._first)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _now(self) -> dict[tuple[int, float], float]:
        """Return the seconds of each process that is alive."""
        found, me = {}, psutil.Process()
        for process in (me, *me.children(recursive=True)):
            try:
                times = process.cpu_times()
                found[process.pid, process.create_time()] = times.user + times.system
            except psutil.Error:
                continue
        return found

    def _look(self) -> None:
        while not self._ended.wait(1.0):
            self.write()

    def write(self) -> dict[str, float]:
        """Bring the file up to date; return what it says."""
        self._last |= self._now()
        cpu = sum(seconds - self._first.get(key, 0.0) for key, seconds in self._last.items())
        told = {
            "wall": round(self._before["wall"] + time.monotonic() - self._start, 1),
            "cpu": round(self._before["cpu"] + cpu, 1),
        }
        self._place.write_text(json.dumps(told), encoding="utf-8")
        return told

    def end(self) -> dict[str, float]:
        """Stop looking; return what was spent."""
        self._ended.set()
        self._thread.join()
        return self.write()


def setting(target: str, budget: str, args: argparse.Namespace) -> Row:
    """Make one setting's run, train what it does not train itself, and return all of it."""
    changes = read_changes(args.set)
    job = job_of(target, budget, args.seeds, args.data, changes)
    place = args.runs / job["name"]
    place.mkdir(parents=True, exist_ok=True)
    (place / "setting.yaml").write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
    spent = Spent(place / "spent.json")
    done = run(job, directory=str(place / "run"), say=_say)
    first = spent.write()
    compared = Comparison(done, say=_say).row()
    return {
        "target": target,
        "budget": budget,
        "seeds": args.seeds,
        "changes": changes,
        **compared,
        "run_seconds": first,
        "seconds": spent.end(),
    }


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all settings that are asked for and not known yet, or tell what is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--budget", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="PLACE=VALUE", help="such as search.trials=50"
    )
    parser.add_argument("--data", type=Path, default=cache_folder("winners"))
    parser.add_argument("--runs", type=Path, default=Path("runs/winners"))
    parser.add_argument("--cpus", type=int, help="that Ray uses; default: all")
    parser.add_argument("--out", type=Path, help="lines of JSON; what is there is not made again")
    parser.add_argument("--summary", type=Path, nargs="+", help="such files; nothing is trained")
    args = parser.parse_args(arguments)
    known = args.summary or ([args.out] if args.out else [])
    rows = [
        json.loads(line)
        for file in known
        if file.exists()
        for line in file.read_text("utf-8").splitlines()
    ]
    if args.summary is None:
        register(args.data)
        cluster.connect(num_cpus=args.cpus)
        changes = read_changes(args.set)
        done = {
            (row["target"], row["budget"])
            for row in rows
            if row["changes"] == changes and row["seeds"] >= args.seeds
        }
        for target in args.only:
            for budget in args.budget:
                if (target, budget) in done:
                    continue
                print(f"{target}, {budget} budget", flush=True)
                rows.append(setting(target, budget, args))
                if args.out:
                    with args.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    for line in summary(rows):
        print(line)


if __name__ == "__main__":
    main()
