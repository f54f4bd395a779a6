"""``zoo-search partition``: a run's step with other options, or a bare file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo_search.cli.options import (
    AsJson,
    Change,
    Place,
    RunFile,
    grouped,
    need_run_file,
    say,
    write_picture,
)
from zoo_search.cli.tables import show
from zoo_search.core.errors import UserError, nearest
from zoo_search.core.progress import working
from zoo_search.core.tables import Table, number, text

if TYPE_CHECKING:
    from zoo_search.config import PartitionConfig
    from zoo_search.partitions.result import Partition

_COLUMNS = (
    text("model"), number("stage"), number("start"), number("stop"), number("set"),
    number("similarity", "similarity to its anchor"),
)  # fmt: skip


@dataclass(frozen=True)
class PartitionOptions:
    """Settings of the section ``partition``; None leaves one as the run file or the default is."""

    k: Annotated[
        list[int] | None,
        typer.Option("-k", "--k", help="Blocks a model, and sets [4]; may be given several times."),
    ] = None
    eps: Annotated[
        float | None, typer.Option(help="A block stays below (1 + eps) |M| / k [0.2].")
    ] = None
    size: Annotated[str | None, typer.Option(help="|M| counts nodes, params or macs.")] = None
    method: Annotated[str | None, typer.Option(help="exact, kl or random [exact].")] = None
    restarts: Annotated[int | None, typer.Option(help="Independent starts [200].")] = None
    one_per_set: Annotated[
        bool | None,
        typer.Option(
            "--one-per-set/--no-one-per-set", help="A model's blocks lie in k different sets [yes]."
        ),
    ] = None
    shift: Annotated[
        int | None, typer.Option(help="Nodes by which a block's ends may move [0].")
    ] = None
    tolerance: Annotated[
        float | None, typer.Option(help="How much less similar a moved block may be [0.1].")
    ] = None
    certify: Annotated[
        float | None, typer.Option(help="Seconds to spend on the upper bound [about 1].")
    ] = None
    workers: Annotated[int | None, typer.Option(help="Ray actors [one a CPU].")] = None


@grouped
def partition(
    *,
    job: Annotated[Path | None, typer.Argument(help="The run file, or give --similarity.")] = None,
    similarity: Annotated[
        str | None,
        typer.Option(help="A similarity.parquet (path or fsspec URI): no run is needed."),
    ] = None,
    change: Change = None,
    options: PartitionOptions,
    out: Annotated[str | None, typer.Option(help="Where partition.json goes as well.")] = None,
    png: Annotated[str | None, typer.Option(help="Draw the sets and the restarts.")] = None,
    place: Place,
    as_json: AsJson = False,
) -> None:
    """Cut the models into blocks and group these into equivalence sets: partition.json.

    With a run file the options overrule its section 'partition'. Sizes in MACs are multiply-adds.
    For several numbers of blocks (-k 3 -k 4) there is a picture each, NAME-k3.png and so on.
    """
    from zoo_search.partitions.result import save_partitions

    if job is None:
        need_run_file(change, "With --similarity the options are all there is: leave --set out.")
    file = None if job is None else RunFile(job, change)
    done = partition_command(file, similarity, options, place)
    if out is not None:
        save_partitions(done, out)
    if png is not None:
        from zoo_search.plots.sets import both_pictures

        for each in done:
            stem, ending = os.path.splitext(png)  # noqa: PTH122  # it may be a URI
            path = png if len(done) == 1 else f"{stem}-k{each.k}{ending}"
            write_picture(path, both_pictures(each))
    if as_json:
        rows = [{"k": each.k, **row} for each in done for row in blocks_table(each).rows]
        show(Table("", _COLUMNS, rows) if len(done) > 1 else blocks_table(done[0]), as_json)
        return
    for each in done:
        show(blocks_table(each))


def partition_command(
    file: RunFile | None, similarity: str | None, options: PartitionOptions, place: Place
) -> tuple[Partition, ...]:
    """Partition the zoo of a run file, or that of a similarity table alone, for each K.

    The steps of a run are made up to this one where they are missing; a bare table needs no run,
    but may join a cluster, and its seed is 0 if ``place`` has none.

    Raises:
        UserError: If not exactly one of the two is given, or either cannot be used.
    """
    given = {name: value for name, value in asdict(options).items() if value not in (None, [])}
    if (file is None) == (similarity is None):
        raise UserError(
            "'zoo-search partition' needs either a run file, such as jobs/digits.yaml, or "
            "--similarity with the path of a similarity.parquet; "
            f"{'neither was' if file is None else 'both were'} given."
        )
    if file is not None:
        from zoo_search.run import pipeline

        config = file.load()
        changed = _settings({**config.partition.model_dump(), **given})
        config = config.model_copy(update={"partition": changed})
        return pipeline.run(config, until="partition", say=say, **asdict(place)).partitions
    from zoo_search.partitions.step import partition_table
    from zoo_search.similarities.table import SimilarityTable

    settings = _settings(given)
    table = SimilarityTable.load(str(similarity))
    if place.address or os.environ.get("RAY_ADDRESS"):
        from zoo_search import cluster

        cluster.connect(place.address)
    with working("partition"):
        return partition_table(table, settings, place.seed or 0)


def _settings(values: Mapping[str, object]) -> PartitionConfig:
    """Return validated settings, or say which option is wrong, and what it may be."""
    from pydantic import ValidationError

    from zoo_search.config import PartitionConfig

    try:
        return PartitionConfig.model_validate(values)
    except ValidationError as error:
        item = error.errors()[0]
        name, given = str(item["loc"][0]), item["input"]
        allowed = getattr(PartitionConfig.model_fields[name].annotation, "__args__", ())
        words = [word for word in allowed if isinstance(word, str)]
        hint = nearest(given, words) if isinstance(given, str) else ""
        raise UserError(
            f"--{name.replace('_', '-')} is {given!r}: {item['msg'][:1].lower()}"
            f"{item['msg'][1:]}.{hint}"
        ) from None


def blocks_table(partition: Partition) -> Table:
    """Return the blocks under objective, bound, gap, and whether sets follow stages."""
    from zoo_search.partitions.agreement import follows_stages

    bound = ""
    if partition.upper_bound is not None and partition.gap is not None:
        bound = f", at most {partition.upper_bound:.4f} (gap {partition.gap:.2%})"
    shifts = f", {len(partition.shifts)} blocks beside these" if partition.shifts else ""
    title = (
        f"{partition.k} sets, objective {partition.objective:.4f}{bound}, sets follow stages: "
        f"adjusted mutual information {follows_stages(partition):.2f}{shifts}"
    )
    return Table(title, _COLUMNS, partition.to_dict()["blocks"])
