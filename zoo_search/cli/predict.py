"""``zoo-search predict``: the classes of images."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from zoo_search.cli.options import AsJson, BatchSize, Device, Trust, say, say_unreadable
from zoo_search.cli.tables import show
from zoo_search.core.redaction import shown
from zoo_search.core.tables import Table, number, text

_SHOWN = 10
"""Classes whose probabilities fit beside each other on a screen."""


def predict(
    winner: Annotated[
        str, typer.Argument(help="Folder of a winner, or a run directory: a path or URI.")
    ],
    images: Annotated[
        list[str], typer.Argument(help="Image files, folders, or patterns in quotes; or URIs.")
    ],
    out: Annotated[
        str | None, typer.Option(help="Write the table here (.csv or .parquet), and print none.")
    ] = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """The class of each image, with the probabilities of all classes."""
    from zoo_search.inference.predict import check_out
    from zoo_search.inference.predict import predict as look

    if out is not None:
        check_out(out)
    found = look(winner, images, batch_size=batch_size, device=device, trust=trust)  # type: ignore[arg-type]
    say_unreadable(found.unreadable, len(found) + len(found.unreadable))
    if out is not None:
        found.save(out)
        counts = Counter(found.classes[label] for label in found.labels)
        told = ", ".join(f"{count} {name}" for name, count in counts.most_common(5))
        more = f" and {len(counts) - 5} classes more" if len(counts) > 5 else ""
        say(f"{len(found)} predictions of {found.winner} in {shown(out)}: {told}{more}")
    if as_json or out is None:
        each = zip(found.columns[3:], found.classes, strict=True)
        columns = (
            text("file"), text("class"), number("probability"),
            *(number(f, f"p({c})") for f, c in each if len(found.classes) <= _SHOWN),
        )  # fmt: skip
        rows = found.rows()
        if not as_json:
            rows = [{name: _words(value) for name, value in row.items()} for row in rows]
        show(Table(found.winner, columns, rows), as_json)
        if len(found.classes) > _SHOWN and not as_json:
            say(f"--out FILE.csv holds the probabilities of all {len(found.classes)} classes")


def _words(value: object) -> object:
    return f"{value:.3f}" if isinstance(value, float) else value
