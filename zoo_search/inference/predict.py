"""``zs.predict``: the class of each image, with the probabilities of all classes."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zoo_search.core.errors import UserError, some
from zoo_search.core.files import Place, write
from zoo_search.inference.forward import Device, check, look
from zoo_search.inference.images import find_images
from zoo_search.inference.winner import open_winner

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = (".csv", ".parquet")
_FORMULA = ("=", "+", "-", "@", "\t")  # how a cell begins that a spreadsheet computes


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a network says of images.

    Attributes:
        winner: Its folder and name, for people.
        classes: Their names.
        files: Names of the images, ``[N]``.
        probabilities: Of each class, float32 ``[N, C]``; rows sum to 1.
        unreadable: Images that could not be read or decoded, with the reason.
    """

    winner: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    probabilities: npt.NDArray[np.float32]
    unreadable: dict[str, str]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Position of the most probable class of each image, ``[N]``."""
        labels: npt.NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return labels

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of files and tables: probabilities are ``p_CLASS``."""
        return ("file", "class", "probability", *(f"p_{name}" for name in self.classes))

    def rows(self) -> list[dict[str, object]]:
        """Return a mapping for each image, by :attr:`columns`."""
        return [dict(zip(self.columns, line, strict=True)) for line in self._lines()]

    def _lines(self) -> list[tuple[object, ...]]:
        labels, each = self.labels.tolist(), self.probabilities.tolist()
        return [
            (file, self.classes[label], every[label], *every)
            for file, label, every in zip(self.files, labels, each, strict=True)
        ]

    def table(self) -> pa.Table:
        """Return the same as a table of Arrow's: strings, and probabilities as float32."""
        import pyarrow as pa

        arrays = [
            pa.array(self.files, pa.string()),
            pa.array([self.classes[label] for label in self.labels], pa.string()),
            pa.array(self.probabilities.max(axis=1), pa.float32()),
            *(pa.array(column, pa.float32()) for column in self.probabilities.T),
        ]
        return pa.Table.from_arrays(arrays, names=list(self.columns))

    def save(self, place: Place) -> None:
        """Write a table to a path or URI that ends in ``.csv`` or ``.parquet``.

        In CSV a name that a spreadsheet would take for a formula has a ``'`` in front.

        Raises:
            UserError: If it ends in something else, or cannot be written.
        """
        check_out(place)
        data = self._parquet() if os.fspath(place).endswith(".parquet") else self._csv()
        try:
            write(place, data)
        except OSError as error:
            raise UserError(
                f"The predictions cannot be written to {os.fspath(place)} "
                f"({error.strerror or error}). Give --out a file in a folder that you may write to."
            ) from None

    def _csv(self) -> bytes:
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        for line in (self.columns, *self._lines()):
            lines.writerow([_cell(value) for value in line])
        return text.getvalue().encode()

    def _parquet(self) -> bytes:
        import pyarrow.parquet as pq

        data = io.BytesIO()
        pq.write_table(self.table(), data)
        return data.getvalue()


def _cell(value: object) -> object:
    """Return a value of a CSV file: a name that a spreadsheet would compute has a ' in front."""
    if not isinstance(value, str):
        return value
    word = value.replace("\r", "\\r")  # csv quotes none, and readers begin a row behind it
    return f"'{word}" if word.startswith(_FORMULA) else word


def check_out(place: Place) -> None:
    """Raise :class:`UserError` if predictions cannot be written under such a name."""
    ending = PurePath(os.fspath(place)).suffix
    if ending not in ENDINGS:
        raise UserError(
            f"--out {os.fspath(place)}: '{ending}' is no format that predictions are written in. "
            f"Give a name that ends in {' or '.join(ENDINGS)}."
        )


def predict(
    winner: Place,
    images: Place | Sequence[Place],
    *,
    batch_size: int | None = None,
    device: Device = "auto",
    trust: bool = False,
) -> Predicted:
    """Say which class each image is of.

    Images are decoded and normalised as in the training of the network.

    Args:
        winner: Folder of an exported network, or a run directory, whose winner is taken; a local
            path or an fsspec URI.
        images: Image files, folders (at any depth), and patterns such as ``photos/*.jpg``; local
            paths or URIs.
        batch_size: Images at once; default: what suits the device.
        device: ``auto``: a GPU if there is one.
        trust: Whether the folder may name code (:func:`zoo_search.load`).

    Raises:
        UserError: If there is no such network or device, no image is found, or none can be read.
    """
    where = check(device, batch_size)
    reader = find_images([images] if isinstance(images, str | os.PathLike) else images)
    found = open_winner(winner, trust=trust)
    reader.value_range = found.transform.value_range
    ids = list(reader.files)
    looked = look(found.net, found.transform, reader, ids, where, batch_size)
    if not len(looked.places):
        named = some([f"{name} ({reason})" for name, reason in looked.unreadable.items()])
        raise UserError(
            f"None of the {len(ids)} images can be read: {named}. Give images in one of the "
            "formats that their endings promise."
        )
    return Predicted(
        str(found),
        found.classes,
        tuple(ids[place] for place in looked.places),
        looked.probabilities,
        looked.unreadable,
    )
