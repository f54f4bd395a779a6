"""``zoo-search evaluate``: how good a winner is on labelled images."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from zoo_search.cli.options import (
    AsJson,
    BatchSize,
    Change,
    Device,
    Trust,
    is_run_file,
    say_unreadable,
    share_modules_beside,
    write_picture,
)
from zoo_search.cli.tables import show
from zoo_search.core.errors import UserError
from zoo_search.core.redaction import redacted_values, shown
from zoo_search.core.tables import Table, number, text


def evaluate(
    winner: Annotated[
        str, typer.Argument(help="Folder of a winner, or a run directory: a path or URI.")
    ],
    data: Annotated[
        str,
        typer.Option(
            help="Labelled images: a run file (.yaml), a data set's name (digits, hf:NAME), a "
            "folder, a .parquet file or tar shards."
        ),
    ],
    change: Change = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, validation, test or all [the test where there is one]."),
    ] = None,
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Leave out classes that the winner does not know.")
    ] = False,
    batch_size: BatchSize = None,
    device: Device = "auto",
    picture: Annotated[
        str | None, typer.Option(help="Draw the confusion matrix here (.png), a path or URI.")
    ] = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Accuracy, what counts all classes alike, each class, calibration, the confusion matrix."""
    from zoo_search.inference.evaluate import evaluate as measure
    from zoo_search.plots.confusion import confusion_picture

    if picture is not None and not picture.lower().endswith(".png"):
        raise UserError(
            f"--picture {picture}: pictures are written as PNG. Give a name that ends in .png."
        )
    if is_run_file(data):
        share_modules_beside(data)
    found = measure(
        winner, data, split=split, batch_size=batch_size, device=device,  # type: ignore[arg-type]
        known_only=known_only, trust=trust, changes=change or (),
    )  # fmt: skip
    say_unreadable(found.unreadable, found.images + len(found.unreadable))
    if picture is not None:
        drawn = confusion_picture(found.confusion, found.classes, "png")
        write_picture(picture, drawn, "--picture")
    if as_json:
        json.dump(redacted_values(found.to_dict()), sys.stdout, indent=1)
        print()
        return
    columns = (
        text("class"), number("precision"), number("recall"), number("f1", "F1"),
        number("count", "images"),
    )  # fmt: skip
    show(Table(f"{found.winner} on {found.data}", columns, found.rows()))
    lines = {
        "images": f"{found.images:,}",
        **({"left out": f"{sum(found.left_out.values()):,}"} if found.left_out else {}),
        "accuracy": f"{found.accuracy:.2%}",
        "balanced accuracy": f"{found.balanced_accuracy:.2%}",
        "macro F1": f"{found.macro_f1:.2%}",
        "expected calibration error": f"{found.calibration_error:.2%}",
        **({"confusion matrix": shown(picture)} if picture is not None else {}),
    }
    width = max(map(len, lines))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in lines.items()))
