"""The steps of a run: what each is made from, and how it is made.

A step's identity is the hash of its part of the configuration, the version of its code's format
and the hashes of its inputs (``docs/design.md``, "Resume and identity").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_search import cluster
from zoo_search.config import HookRole, Hooks
from zoo_search.config.paths import ResolvedPath
from zoo_search.config.section import is_spelled
from zoo_search.core.progress import console
from zoo_search.run.run import Run

if TYPE_CHECKING:
    from zoo_search.data.base import Subset


@dataclass(frozen=True)
class Step:
    """One step: what it is made from, and how it is made."""

    version: int
    """Of its code: what another version made is made anew."""
    inputs: Callable[[Run], object]
    """What it is made from, JSON-like."""
    make: Callable[[Run], Sequence[str]]
    """Makes it, and returns the names of the artifacts that it wrote."""
    forget: Callable[[Run], None] | None = None
    """Removes what it resumes from when it was killed, once the step is recorded."""


def _make_zoo(run: Run) -> Sequence[str]:
    from zoo_search.zoo import list_zoo

    run.store.write_json("zoo.json", [asdict(row) for row in list_zoo(run.zoo)])
    return ["zoo.json"]


def _similarity_images(run: Run) -> Subset:
    config = run.job.similarity
    return run.similarity_dataset.select("train", config.fraction, config.limit, run.job.seed)


def _similarity_from(run: Run) -> list[object]:
    """Return what the table is made from; where it is given, its file and not its place counts."""
    if run.given_table is not None:
        return [run.zoo_identity, {"table": run.given_table.sha256}]
    return [
        run.zoo_identity,
        run.job.similarity.identity(),
        _similarity_images(run).fingerprint,
        run.job.seed,
        *_own_metric(run),
    ]


def _make_similarity(run: Run) -> Sequence[str]:
    if run.given_table is not None:
        from zoo_search.similarities.given import write_given
        from zoo_search.similarities.table import ModelCuts

        models = {name: ModelCuts.of(model.graph) for name, model in run.zoo.items()}
        console.print(f"  similarity: {write_given(run.given_table, models, run.store)}")
        return ["similarity.parquet"]
    from zoo_search.similarities import step

    run.connect()
    images, config = _similarity_images(run), run.job.similarity
    source = config.dataset or run.job.dataset
    step.compute(run.zoo, images, config, run.job.seed, run.store, run.hosts, source=source)
    skipped = images.skipped.reasons()
    if skipped:
        named = "; ".join(f"{name} ({reason})" for name, reason in list(skipped.items())[:5])
        console.print(f"  {len(skipped)} images could not be decoded, skipped: {named}")
    return ["similarity.parquet"]


def _own_metric(run: Run) -> list[object]:
    """Return the code of a user's own metric; nothing for ours."""
    from zoo_search.similarities.estimators.registry import metric_identity

    return metric_identity(run.job.similarity.metric)


def _make_partition(run: Run) -> Sequence[str]:
    from zoo_search.partitions import step

    run.connect_if_named()
    hosts = run.hosts if cluster.connected() else None
    step.solve(run.table, run.job.partition, run.job.seed, run.store, hosts)
    return ["partition.json"]


def _make_candidates(run: Run) -> Sequence[str]:
    from zoo_search.reassembly import step

    run.connect()
    train, classes = run.dataset.select("train", seed=run.job.seed), len(run.dataset.classes)
    step.run(run.partitions, run.zoo, train, classes, run.job, run.store, run.hosts)
    return ["candidates.parquet"]


def _make_winners(run: Run) -> Sequence[str]:
    from zoo_search.finetune import selection, step
    from zoo_search.finetune.trained import FILES_OF_A_WINNER

    run.connect()
    entries, more = selection.select_entries(
        run.job, run.store, run.zoo, run.dataset, run.partitions
    )
    results = step.run(
        entries, run.zoo, run.dataset, run.job, run.store,
        more=more, deadline=run.deadline(), hours=run.hours, hosts=run.hosts,
    )  # fmt: skip
    folders = [result.folder for result in results if result.folder is not None]
    # Files, not folders: what users put beside them makes nothing out of date.
    files = (
        f"{folder}/{name}"
        for folder in folders
        for name in run.store.list(folder)
        if name in FILES_OF_A_WINNER
    )
    return ["winners.json", *files]


def _forget_trainings(run: Run) -> None:
    from zoo_search.finetune.trained import forget_scratch

    forget_scratch(run.store)


def _make_report(run: Run) -> Sequence[str]:
    from zoo_search.report import build

    build(run.store)
    return ["report.html"]


def _hooks(run: Run, *roles: HookRole, init: Hooks | None = None) -> list[object]:
    """Return what the init hooks of the run, or of ``init``, do to modules of these roles."""
    from zoo_search.hooks import hooks_identity

    return [hooks_identity(run.job.init if init is None else init, role) for role in roles]


def _tuning_hooks(run: Run) -> list[object]:
    """Return what init hooks do in the fine-tuning, those of single entries included."""
    config = run.job.finetune
    own = [plain.init for plain in config.plain.values()]
    own += [variant.init for variant in config.variants.values()]
    return [_hooks(run, "plain", "candidate", "variant", init=init) for init in (None, *own)]


def _own_code(run: Run) -> list[object]:
    """Return what a user's own proxies and sampler do, and which versions ours have."""
    from zoo_search.reassembly.step import own_code

    return own_code(run.job.search)


def _plain_weights(run: Run) -> list[object]:
    """Return the hashes of files that plain models come from, of which the configuration says none.

    Those of the zoo are hashed as tensors (:attr:`Run.zoo_identity`).
    """
    from zoo_search.core.files import sha256_of

    if is_spelled():
        return []
    places = {
        name: Path(entry.weights)
        for name, entry in run.job.finetune.plain.items()
        if isinstance(entry.weights, ResolvedPath)
    }
    hashes = {name: sha256_of(place) for name, place in places.items() if place.is_file()}
    return [hashes] if hashes else []


def _results(run: Run, *steps: str) -> list[str]:
    return [run.store.result_of(step) for step in steps]


STEPS: dict[str, Step] = {
    "zoo": Step(2, lambda run: run.zoo_identity, _make_zoo),
    "similarity": Step(
        2,
        _similarity_from,
        _make_similarity,
    ),
    "partition": Step(
        2,
        lambda run: [_results(run, "similarity"), run.job.partition.identity(), run.job.seed],
        _make_partition,
    ),
    "reassemble": Step(
        2,
        lambda run: [
            _results(run, "partition"),
            run.zoo_identity,
            run.dataset.fingerprint,
            run.job.search.identity(),
            _hooks(run, "candidate"),
            run.job.budget.identity(),
            run.job.seed,
            *_own_code(run),
        ],
        _make_candidates,
    ),
    "finetune": Step(
        6,
        lambda run: [
            _results(run, "reassemble"),
            run.job.finetune.identity(),
            _tuning_hooks(run),
            run.job.seed,
            *([] if run.hours is None else [{"hours": run.hours}]),
            *_plain_weights(run),
        ],
        _make_winners,
        forget=_forget_trainings,
    ),
    "report": Step(
        2,
        lambda run: [
            _results(run, "zoo", "similarity", "partition", "reassemble", "finetune"),
            run.job.to_yaml(first_names=True),
        ],
        _make_report,
    ),
}
"""The steps of a run, in order; each needs those before it."""
