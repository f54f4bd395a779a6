"""``zoo-search data``: the images of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo_search.cli.options import Change, is_run_file, say, share_modules_beside
from zoo_search.core.redaction import shown

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The images of a run.")


@app.command()
def pack(
    source: Annotated[
        str,
        typer.Argument(
            help="A run file (.yaml), whose data set is packed, or the path or URI of images."
        ),
    ],
    out: Annotated[str, typer.Argument(help="An empty or new folder: a path or an fsspec URI.")],
    change: Change = None,
    name: Annotated[
        str | None,
        typer.Option(help="What a path is: folder, parquet or another data set's name [folder]."),
    ] = None,
    shard_mb: Annotated[
        float, typer.Option(min=0.001, help="Size of a shard, in 10^6 bytes.")
    ] = 256,
    seed: Annotated[int, typer.Option(help="Of the order of the images.")] = 0,
    resize: Annotated[
        int | None,
        typer.Option(min=1, help="Shrink images to this shorter side [bytes stay as they are]."),
    ] = None,
) -> None:
    """Write a data set as tar shards (WebDataset) that runs read at any place.

    The same command after a stop or a kill goes on from the shards that are whole.
    """
    from zoo_search.core.errors import some
    from zoo_search.data.pack import pack as write
    from zoo_search.data.pack import source_of

    if is_run_file(source):
        share_modules_beside(source)
    done = write(
        source_of(source, name, change or ()), out, shard_mb=shard_mb, seed=seed, resize=resize
    )
    if done.kept:
        say(f"{done.kept} of {done.shards} shards were there already")
    if done.bad:
        named = some([f"{image} ({reason})" for image, reason in sorted(done.bad.items())])
        say(f"left out, as they cannot be read or decoded: {len(done.bad)} images: {named}")
    print(shown(str(done)))
