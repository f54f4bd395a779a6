"""``zoo-search transfer``: DPIAT between two networks that words name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo_search.cli.options import (
    AsJson,
    Change,
    Trust,
    need_run_file,
    share_modules_beside,
    write_picture,
)
from zoo_search.cli.tables import show
from zoo_search.core.errors import UserError
from zoo_search.core.progress import working
from zoo_search.core.tables import Table, number, text

if TYPE_CHECKING:
    from zoo_search.core.files import Place
    from zoo_search.export.named import Words


def transfer(
    source: Annotated[
        str,
        typer.Argument(
            help="A timm name, ARCH@FILE, a file that this command wrote, a winner's folder (a "
            "path or an fsspec URI), or a zoo name with --job."
        ),
    ],
    target: Annotated[str, typer.Argument(help="The same.")],
    out: Annotated[str, typer.Option(help="Where the target's weights go (.safetensors).")],
    job: Annotated[Path | None, typer.Option(help="Run file whose zoo the names may mean.")] = None,
    change: Change = None,
    matching: Annotated[
        str, typer.Option(help="How layers are matched: dp, bipartite, nbipartite or random.")
    ] = "dp",
    operator: Annotated[
        str, typer.Option(help="How values are copied: clip, clip_norm, full or magnitude.")
    ] = "clip",
    png: Annotated[str | None, typer.Option(help="Draw the matching here (.png).")] = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Weights for TARGET from SOURCE, a network of another architecture (DPIAT)."""
    from zoo_search.dpiat import copy_matched, match_layers
    from zoo_search.export.named import Words, write_weights

    if job is None:
        need_run_file(change, "Give it with --job, or leave --set out.")
    else:
        share_modules_beside(job)
    words = Words(job, change or (), trust=trust)
    _check_output("--out", out, ".safetensors", words, (source, target))
    if png is not None:
        _check_output("--png", png, ".png", words, ())
    # Models of the zoo and timm names start from random values, networks from files and folders
    # from their own; they stay where nothing is copied.
    with working("transfer"):
        giver, _ = words.network(source, fill=True)
        taker, built = words.network(target, fill=False)
        matched = match_layers(giver, taker, matching, words.config.seed)
        report = copy_matched(matched, operator)
    write_weights(out, taker, built)
    if png is not None:
        from zoo_search.plots.matching import matching_picture

        write_picture(png, matching_picture(matched, (source, target)))
    columns = (
        text("target"), text("target_shape", "shape"), text("source"),
        text("source_shape", "shape"), text("kind"), number("score"), number("copied"),
        number("total", "of"), text("reason", "left, because"),
    )  # fmt: skip
    title = f"{source} → {target}: {report}, written to {out}"
    show(Table(title, columns, report.rows()), as_json)


def _check_output(
    option: str, path: Place, suffix: str, words: Words, inputs: Sequence[str]
) -> None:
    """Check a file to write before anything is done."""
    from zoo_search.core.files import joined, real

    if not os.fspath(path).endswith(suffix):
        raise UserError(
            f"{option} {path}: the file is written in the format {suffix[1:]}. Give it a name that "
            f"ends in {suffix}."
        )
    for word in inputs:
        read = words.file_of(word)
        if real(path) in (real(read), real(joined(read, "model.safetensors"))):
            raise UserError(
                f"{option} {path}: '{word}' is read from this file, and would be lost. Write to "
                "another one."
            )
