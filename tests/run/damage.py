"""Bits and ends that a disk loses in a finished run, and what the commands then take from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import zoo_search as zs
from zoo_search.core.errors import UserError
from zoo_search.core.store import MANIFEST
from zoo_search.finetune.trained import earlier_winners
from zoo_search.networks.stitch_files import StitchFiles
from zoo_search.reassembly.journal import damaged_line
from zoo_search.run.directory import claim
from zoo_search.run.pipeline import _keep_job
from zoo_search.run.run import Run
from zoo_search.similarities.passes import gram_folder, grams

SAID = "said"
"""What a command says of damage, or does about it, in place of what it would have taken."""


def damages(root: Path, count: int, seed: int) -> Iterator[tuple[Path, bytes]]:
    """Yield files of a folder with what is left of them: bits are flipped, and ends are lost.

    Every file that a command of ours reads comes as often as any other, ``count`` cases in all.
    """
    rng = np.random.default_rng(seed)
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and "tfevents" not in p.name]
    for case in range(count):
        file = files[case % len(files)]
        data = file.read_bytes()
        place = int(rng.integers(len(data)))
        if rng.random() < 0.25:
            yield file, data[:place]
        else:
            flipped = bytes([data[place] ^ 1 << int(rng.integers(8))])
            yield file, data[:place] + flipped + data[place + 1 :]


class Reader:
    """Takes from a finished run what its commands take, file by file."""

    def __init__(self, run: Run) -> None:
        self.run, self.store, self.root = run, run.store, Path(run.store.url)
        self.steps = run.store.manifest()
        self.owner = {name: step for step, one in self.steps.items() for name in one["artifacts"]}
        logs = map(json.loads, (self.root / "study.journal").read_bytes().splitlines())
        self.keys = {key for log in logs for key in log} - {"check"}  # of the journal's lines
        self.grams = {
            grams.path_of(header.model, batch): header
            for header in map(self._any_header, sorted((self.root / "grams").rglob("*.parquet")))
            for batch in [header.batch]
        }

    def take(self, file: Path) -> Any:
        """Return what the commands take from a file; :data:`SAID` where they say that it is bad."""
        name = file.relative_to(self.root).as_posix()
        try:
            return self._take(name)
        except UserError:
            return SAID

    def taken_over(self, folder: str) -> Any:
        """Return what a changed run goes on with of a winner's folder."""
        if folder not in earlier_winners(self.store).values():
            return SAID  # it is trained anew
        root = self.root / folder
        return {path.name: path.read_bytes() for path in sorted(root.iterdir())}

    def _take(self, name: str) -> Any:
        first = name.partition("/")[0]
        if name in self.owner:
            step = self.owner[name]
            if not self.store.is_current(step, self.steps[step]["made_from"]):
                return SAID  # the step is made again
            return self.store.read_bytes(name)
        if name == MANIFEST:
            return self.store.manifest()
        if name == "job.yaml":
            _keep_job(self.run)
            return self.store.read_bytes(name)
        if name == "zoo-search.json":
            claim(self.store)
            return None
        if name == "study.journal":
            return SAID if damaged_line(self.root / name) else self._journal(name)
        if first == "grams":
            header = self.grams[name]
            found = gram_folder.find(self.store, {header.model: header.made_from}, header.batch + 1)
            known = found[header.model].get(header.batch)
            return SAID if known != header else [t.tolist() for t in grams.read(self.store, known)]
        if first == "stitches":
            damaged = StitchFiles(self.store, {}, "").sweep()
            return SAID if damaged else _values(self.root / name)
        found = self.store.kept(name)
        return SAID if found is None else found

    def _journal(self, name: str) -> str:
        """Return the lines of a journal; a hash under another name is none, and is passed over."""
        logs = map(json.loads, self.store.read_bytes(name).splitlines())
        return json.dumps([{key: log[key] for key in sorted(self.keys & set(log))} for log in logs])

    def _any_header(self, path: Path) -> grams.Header:
        import pyarrow.parquet as pq

        return grams.header_in(pq.read_schema(path).metadata)


def winner(folder: Path) -> Any:
    """Return what a winner's folder gives to whoever got it; :data:`SAID` where it is refused."""
    try:
        net = zs.load(folder)
    except UserError:
        return SAID
    image = torch.zeros(1, 3, *net.transform.size)
    with torch.no_grad():
        return net.transform, net(image).tolist()


def _values(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: tensor.tolist() for name, tensor in load_file(path).items()}
