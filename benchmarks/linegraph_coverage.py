"""Line graphs of the whole timm registry.

Creates every registered architecture on the meta device, traces it at its own input size, and
writes one JSON line for each, then a summary as Markdown. Workers are processes of their own with
a time limit, so a crash or a hang costs one architecture. Run again to go on where it stopped.

    python benchmarks/linegraph_coverage.py --out coverage.jsonl --report docs/linegraph_coverage.md
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import queue
import statistics
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# DeRy's hand-written tables (Yang et al. 2022), with the patch merges of Swin counted.
NODE_COUNTS = {
    "resnet18": 8,
    "resnet50": 16,
    "resnet101": 33,
    "resnext50_32x4d": 16,
    "mobilenetv3_large_100": 16,
    "vit_small_patch16_224": 12,
    "vit_large_patch16_224": 24,
    "swin_tiny_patch4_window7_224": 15,
    "swin_small_patch4_window7_224": 27,
    "regnety_008": 14,
    "regnety_016": 27,
    "regnety_032": 21,
    "regnety_080": 17,
    "regnety_160": 18,
}
ENOUGH = 4


def examine(name: str) -> dict[str, Any]:
    """Trace one architecture and return its line of the table."""
    import timm
    import torch

    from zoo_search.core.errors import UserError
    from zoo_search.linegraph import count, trace

    with torch.device("meta"):
        model = timm.create_model(name)
    size = tuple(model.pretrained_cfg["input_size"])
    start = time.perf_counter()
    line: dict[str, Any] = {"name": name, "family": type(model).__name__, "input": size}
    try:
        graph = trace(model, size, name)
    except UserError as error:
        return line | {"refused": str(error), "seconds": time.perf_counter() - start}
    seconds = time.perf_counter() - start
    params, macs = count(model, size)
    return line | {
        "nodes": len(graph),
        "seconds": seconds,
        "gmacs": graph.macs / 1e9,
        "params": graph.params,
        "params_agree": graph.params == params,
        # Each operation is halved and rounded on its own.
        "macs_agree": abs(graph.macs - macs) <= len(graph) + 1,
        "head_share": graph.head_macs / max(graph.macs, 1),
        "largest": max(node.macs for node in graph.nodes) / max(graph.macs, 1),
        "layouts": sorted({cut.layout for cut in graph.cuts[1:]}),
        "modules": sorted({type(node.module).__name__ for node in graph.nodes}),
        "streams": max(cut.streams for cut in graph.cuts),
        "not_cuts": len(graph.refused),
    }


def serve(pipe: Connection) -> None:
    """Work off names that come through ``pipe`` until None comes."""
    import torch

    torch.set_num_threads(1)
    while (name := pipe.recv()) is not None:
        try:
            pipe.send(examine(name))
        except Exception as error:
            pipe.send({"name": name, "crashed": f"{type(error).__name__}: {error}"[:600]})


class Worker:
    """One worker process, started again when it dies or hangs."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._start()
        self.name: str | None = None
        self.deadline = 0.0

    def _start(self) -> None:
        self._pipe, far = self._context.Pipe()
        self._process = self._context.Process(target=serve, args=(far,), daemon=True)
        self._process.start()
        far.close()

    def give(self, name: str, limit: float) -> None:
        """Hand over one architecture."""
        self.name, self.deadline = name, time.monotonic() + limit
        self._pipe.send(name)

    def take(self) -> dict[str, Any] | None:
        """Return the finished line, if there is one; a dead or late worker's line says so."""
        assert self.name is not None
        line: dict[str, Any] | None = None
        try:
            if self._pipe.poll(0.05):
                line = self._pipe.recv()
            elif time.monotonic() > self.deadline:
                line = {"name": self.name, "crashed": "time limit"}
        except (EOFError, OSError):
            line = {"name": self.name, "crashed": "the worker process died"}
        if line is not None:
            if line.get("crashed") in ("time limit", "the worker process died"):
                self._process.kill()
                self._start()
            self.name = None
        return line

    def stop(self) -> None:
        """End the process."""
        self._process.kill()


def run(names: Iterable[str], out: Path, workers: int, limit: float) -> None:
    """Examine ``names`` and append a line for each to ``out``."""
    todo: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in names:
        todo.put(name)
    pool = [Worker() for _ in range(workers)]
    try:
        with out.open("a") as file:
            while not todo.empty() or any(worker.name for worker in pool):
                for worker in pool:
                    if worker.name is None:
                        if not todo.empty():
                            worker.give(todo.get(), limit)
                        continue
                    line = worker.take()
                    if line is not None:
                        file.write(json.dumps(line) + "\n")
                        file.flush()
                        said = line.get("nodes") or line.get("refused") or line.get("crashed")
                        print(f"{line['name']}: {str(said)[:200]}", flush=True)
    finally:
        for worker in pool:
            worker.stop()


def report(lines: list[dict[str, Any]], registered: int) -> str:
    """Return the summary and the table as Markdown."""
    import timm
    import torch

    good = [line for line in lines if line.get("nodes", 0) >= ENOUGH]
    lumps = [line for line in good if line["largest"] > 0.5]
    packed = [line["name"] for line in good if line["streams"] > 1]
    few = [line for line in lines if 0 < line.get("nodes", 0) < ENOUGH]
    refused = [line for line in lines if "refused" in line]
    crashed = [line for line in lines if "crashed" in line]
    seconds = [line["seconds"] for line in lines if "seconds" in line]
    slowest = max(lines, key=lambda line: line.get("seconds", 0.0))
    by_name = {line["name"]: line for line in lines}
    text = [
        "# Line graphs of the timm registry",
        "",
        f"Written by `benchmarks/linegraph_coverage.py` with timm {timm.__version__}, torch "
        f"{torch.__version__}; every architecture at its own input size, on the meta device.",
        "",
        "| what | figure |",
        "| --- | ---: |",
        f"| registered architectures | {registered} |",
        f"| examined | {len(lines)} |",
        f"| line graph of {ENOUGH} or more nodes | {len(good)} "
        f"({len(good) / max(len(lines), 1):.2%}) |",
        f"| of these, with over half of the multiply-adds in one node | {len(lumps)} |",
        f"| of these, with several streams packed into one tensor | {len(packed)} |",
        f"| line graph of fewer nodes | {len(few)} |",
        f"| refused with a reason | {len(refused)} |",
        f"| crashed or out of time | {len(crashed)} |",
        f"| parameters of the nodes and head sum to the model's | "
        f"{sum(bool(line.get('params_agree')) for line in lines)} of {len(good) + len(few)} |",
        f"| multiply-adds of the nodes and head sum to the whole model's, counted by torch | "
        f"{sum(bool(line.get('macs_agree')) for line in lines)} of {len(good) + len(few)} |",
        f"| seconds for one, median | {statistics.median(seconds):.2f} |",
        f"| seconds for one, most | {max(seconds):.1f} (`{slowest['name']}`) |",
        "",
        "## Refused, with fewer nodes, or crashed",
        "",
    ]
    text += [f"- {line['refused']}" for line in refused]
    text += [f"- {line['name']}: {line['nodes']} nodes" for line in few]
    text += [f"- {line['name']}: {line['crashed']}" for line in crashed]
    text += ["", "## Several streams packed into one tensor", "", ", ".join(sorted(packed))]
    text += ["", "## Over half of the multiply-adds in one node", ""]
    text += [f"- {line['name']}: {line['nodes']} nodes, {line['largest']:.0%}" for line in lumps]
    text += ["", "## Node counts of DeRy's models", "", "| model | nodes | DeRy |"]
    text += ["| --- | ---: | ---: |"]
    text += [
        f"| {name} | {by_name.get(name, {}).get('nodes', '')} | {count} |"
        for name, count in NODE_COUNTS.items()
    ]
    text += ["", "## All", "", "*largest*: share of the multiply-adds in the largest node.", ""]
    text += ["| model | class | nodes | largest | GMACs | M params | layouts |"]
    text += ["| --- | --- | ---: | ---: | ---: | ---: | --- |"]
    for line in sorted(good + few, key=lambda line: str(line["name"])):
        text.append(
            f"| {line['name']} | {line['family']} | {line['nodes']} | "
            f"{line['largest']:.0%} | {line['gmacs']:.2f} | "
            f"{line['params'] / 1e6:.2f} | {', '.join(line['layouts'])} |"
        )
    return "\n".join(text) + "\n"


def main() -> None:
    """Parse the command line and run."""
    import timm

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=float, default=180.0, help="seconds for one architecture")
    parser.add_argument("--every", type=int, default=1, help="take every n-th architecture")
    parser.add_argument("--offset", type=int, default=0, help="start at this one")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--report", type=Path, help="Markdown summary to write")
    options = parser.parse_args()
    registered = timm.list_models()
    chosen = registered[options.offset :: options.every]
    lines: dict[str, dict[str, Any]] = {}
    if options.out.exists():
        for text in options.out.read_text().splitlines():
            lines[json.loads(text)["name"]] = json.loads(text)
    run([n for n in chosen if n not in lines], options.out, options.workers, options.limit)
    for text in options.out.read_text().splitlines():
        lines[json.loads(text)["name"]] = json.loads(text)
    summary = report([lines[name] for name in chosen], len(registered))
    if options.report:
        options.report.write_text(summary)
    print(summary.partition("## All")[0])


if __name__ == "__main__":
    main()
