"""A whole run: the steps in order, each made only if what it is made from has changed.

A step's identity is the hash of its part of the configuration, the version of its code's format
and the hashes of its inputs (``docs/design.md``, "Resume and identity").
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo_search import engine
from zoo_search.config import HookRole, JobConfig, load_job
from zoo_search.errors import UserError
from zoo_search.progress import console
from zoo_search.store import RunStore, fingerprint

if TYPE_CHECKING:
    from zoo_search.data import VisionDataset
    from zoo_search.data.base import Subset
    from zoo_search.partition.result import Partition
    from zoo_search.similarity.table import SimilarityTable
    from zoo_search.zoo import Zoo

__all__ = ["STEPS", "Outcome", "Run", "run"]


@dataclass(frozen=True)
class Outcome:
    """What became of one step."""

    step: str
    skipped: bool
    seconds: float


@dataclass
class Run:
    """One run: its configuration, its directory, and what the steps share.

    Attributes:
        job: The validated configuration.
        store: The run directory.
        address: Ray cluster to join; None: ``RAY_ADDRESS``, else a local one, started when needed.
    """

    job: JobConfig
    store: RunStore
    address: str | None = None
    outcomes: list[Outcome] = field(default_factory=list)

    @classmethod
    def open(
        cls,
        job: str | Path | Mapping[str, Any] | JobConfig,
        directory: str | None = None,
        address: str | None = None,
        seed: int | None = None,
    ) -> Run:
        """Open the run of a job in ``directory`` (default ``runs/<name>``)."""
        config = load_job(job)
        if seed is not None:
            config = config.model_copy(update={"seed": seed})
        engine.set_patience(config.patience)
        return cls(config, RunStore(directory or f"runs/{config.name}"), address)

    def connect(self) -> None:
        """Start or join Ray, once, when a step has work for it."""
        engine.connect(self.address)

    def connect_if_named(self) -> None:
        """Join Ray where an address is given; for a step that may be over before Ray starts."""
        if self.address or os.environ.get("RAY_ADDRESS"):
            self.connect()

    @cached_property
    def zoo(self) -> Zoo:
        """The zoo, pre-trained first where the job asks for it."""
        from zoo_search.finetune.ahead import check_ahead
        from zoo_search.zoo import load_zoo, pretrain, untrained

        check_ahead(self.job)
        if untrained(self.job):
            self.connect()
            pretrain(self.job)
        return load_zoo(self.job)

    @cached_property
    def dataset(self) -> VisionDataset:
        """The target images."""
        from zoo_search.data import open_dataset

        return open_dataset(self.job.dataset, self.job.seed)

    @cached_property
    def zoo_identity(self) -> dict[str, Any]:
        """What the models are: specification, weights and size of each."""
        return {
            name: {
                "spec": model.spec.model_dump(mode="json"),
                "weights": model.weights_hash,
                "transform": asdict(model.transform),
            }
            for name, model in self.zoo.items()
        }

    @property
    def table(self) -> SimilarityTable:
        """The similarity table, once the step ``similarity`` is made."""
        from zoo_search.similarity.table import SimilarityTable

        with self.store.local_copy("similarity.parquet") as path:
            return SimilarityTable.load(path)

    @property
    def partition(self) -> Partition:
        """The sets, once the step ``partition`` is made."""
        from zoo_search.partition.result import Partition

        with self.store.local_copy("partition.json") as path:
            return Partition.load(path)


@dataclass(frozen=True)
class Step:
    """One step: what it needs first, what it is made from, and how it is made.

    ``make`` returns the names of the artifacts that it wrote; ``scratch`` is what it resumes from
    when it was killed, removed once the step is recorded.
    """

    name: str
    version: int
    needs: tuple[str, ...]
    inputs: Callable[[Run], Any]
    make: Callable[[Run], Sequence[str]]
    scratch: str | None = None


def _make_zoo(run: Run) -> Sequence[str]:
    from zoo_search.zoo import list_zoo

    run.store.write_json("zoo.json", [asdict(row) for row in list_zoo(run.zoo)])
    return ["zoo.json"]


def _similarity_images(run: Run) -> Subset:
    config = run.job.similarity
    return run.dataset.select("train", config.fraction, config.limit, run.job.seed)


def _make_similarity(run: Run) -> Sequence[str]:
    from zoo_search.similarity import step

    run.connect()
    images = _similarity_images(run)
    step.compute(run.zoo, images, run.job.similarity, run.job.seed, run.store)
    _tell_skipped(images)
    return ["similarity.parquet"]


def _tell_skipped(images: Subset) -> None:
    """Count and name the images that could not be decoded."""
    skipped = images.skipped.named()
    if skipped:
        named = "; ".join(f"{name} ({reason})" for name, reason in list(skipped.items())[:5])
        console.print(f"  {len(skipped)} images could not be decoded, skipped: {named}")


def _make_partition(run: Run) -> Sequence[str]:
    from zoo_search.partition import step

    run.connect_if_named()
    step.solve(run.table, run.job.partition, run.job.seed, run.store)
    return ["partition.json"]


def _make_candidates(run: Run) -> Sequence[str]:
    from zoo_search.reassembly import step

    run.connect()
    train = run.dataset.select("train", seed=run.job.seed)
    step.run(run.partition, run.zoo, train, len(run.dataset.classes), run.job, run.store)
    return ["candidates.parquet"]


def _make_winners(run: Run) -> Sequence[str]:
    from zoo_search.finetune import choose, step

    run.connect()
    entries = choose.entries(run.job, run.store, run.zoo, run.dataset, run.partition)
    results = step.run(entries, run.zoo, run.dataset, run.job, run.store)
    return ["winners.json", *(r.folder for r in results if r.folder is not None)]


def _make_report(run: Run) -> Sequence[str]:
    from zoo_search.report import build

    build(run.store)
    return ["report.html"]


def _hooks(run: Run, *roles: HookRole, init: Any = None) -> list[Any]:
    """Return what the init hooks of the run, or of ``init``, do to modules of these roles."""
    from zoo_search.hooks import hooks_identity

    return [hooks_identity(run.job.init if init is None else init, role) for role in roles]


def _tuning_hooks(run: Run) -> list[Any]:
    """Return what init hooks do in the fine-tuning, those of single entries included."""
    config = run.job.finetune
    own = [plain.init for plain in config.plain.values()]
    own += [variant.init for variant in config.variants.values()]
    return [_hooks(run, "plain", "candidate", "variant", init=init) for init in (None, *own)]


def _results(*steps: str) -> Callable[[Run], list[str]]:
    return lambda run: [run.store.result_of(step) for step in steps]


_TABLE = [
    Step("zoo", 2, (), lambda run: run.zoo_identity, _make_zoo),
    Step(
        "similarity",
        2,
        ("zoo",),
        lambda run: [
            run.zoo_identity,
            run.job.similarity.model_dump(mode="json", exclude={"workers", "window_mb", "compile"}),
            _similarity_images(run).fingerprint,
            run.job.seed,
        ],
        _make_similarity,
    ),
    Step(
        "partition",
        2,
        ("similarity",),
        lambda run: [
            _results("similarity")(run),
            run.job.partition.model_dump(mode="json", exclude={"workers"}),
            run.job.seed,
        ],
        _make_partition,
    ),
    Step(
        "reassemble",
        2,
        ("partition",),
        lambda run: [
            _results("partition")(run),
            run.zoo_identity,
            run.dataset.fingerprint,
            run.job.search.model_dump(mode="json", exclude={"workers", "storage"}),
            _hooks(run, "candidate"),
            run.job.budget.model_dump(mode="json"),
            run.job.seed,
        ],
        _make_candidates,
    ),
    Step(
        "finetune",
        3,
        ("reassemble",),
        lambda run: [
            _results("reassemble")(run),
            run.job.finetune.model_dump(mode="json"),
            _tuning_hooks(run),
            run.job.seed,
        ],
        _make_winners,
        scratch="finetune",
    ),
    Step(
        "report",
        2,
        ("finetune",),
        lambda run: [
            _results("zoo", "similarity", "partition", "reassemble", "finetune")(run),
            run.job.to_yaml(),
        ],
        _make_report,
    ),
]
STEPS: dict[str, Step] = {step.name: step for step in _TABLE}
"""The steps of a run, in order."""


def ensure(run: Run, name: str, say: Callable[[str], None]) -> None:
    """Make the step ``name`` and what it needs, skipping what is up to date."""
    step = STEPS[name]
    for need in step.needs:
        ensure(run, need, say)
    start = time.monotonic()
    made_from = fingerprint({"step": name, "version": step.version, "from": step.inputs(run)})
    if run.store.is_current(name, made_from):
        run.outcomes.append(Outcome(name, skipped=True, seconds=0.0))
        say(f"{name}: up to date, skipped")
        return
    say(f"{name} …")
    artifacts = step.make(run)
    seconds = time.monotonic() - start
    run.store.record(name, made_from, artifacts, seconds=seconds, facts={})
    if step.scratch is not None:
        run.store.remove(step.scratch)
    run.outcomes.append(Outcome(name, skipped=False, seconds=seconds))
    say(f"{name}: made in {seconds:.1f} s ({', '.join(artifacts)})")


def run(
    job: str | Path | Mapping[str, Any] | JobConfig,
    *,
    until: str = "report",
    directory: str | None = None,
    address: str | None = None,
    seed: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Run:
    """Run the steps of a job up to ``until``, resuming from what the run directory holds.

    Args:
        job: Path of a run file, a mapping of the same form, or a validated configuration.
        until: Last step to make.
        directory: Run directory, a path or an fsspec URI; default ``runs/<name>``.
        address: Ray cluster to join; default ``RAY_ADDRESS``, else this machine.
        seed: Overrules the seed of the job.
        say: Called with one line at the start and the end of each step.

    Raises:
        UserError: What a user can mend, in any step.
    """
    if until not in STEPS:
        raise UserError(f"There is no step '{until}'. Allowed: {', '.join(STEPS)}.")
    opened = Run.open(job, directory, address, seed)
    opened.store.write_text("job.yaml", opened.job.to_yaml())
    ensure(opened, until, say)
    return opened


def rank_zoo(
    job: str | Path | Mapping[str, Any] | JobConfig,
    proxy: str,
    *,
    address: str | None = None,
    seed: int | None = None,
) -> list[dict[str, Any]]:
    """Return the zoo models by a training-free score on the training images, best first."""
    from zoo_search.reassembly import rank

    opened = Run.open(job, None, address, seed)
    train = opened.dataset.select("train", seed=opened.job.seed)
    return rank(opened.zoo, train, len(opened.dataset.classes), proxy, opened.job)
