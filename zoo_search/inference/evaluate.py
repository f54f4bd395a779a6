"""``zs.evaluate``: how good a network is on labelled images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from zoo_search.core.errors import Note, UserError, nearest, some
from zoo_search.core.files import Place
from zoo_search.inference.forward import Device, check, look
from zoo_search.inference.labelled import Data, Labelled, open_labelled
from zoo_search.inference.winner import Winner, open_winner
from zoo_search.training.metrics import (
    PerClass,
    calibration_error,
    confusion,
    per_class,
    score,
)

if TYPE_CHECKING:
    from zoo_search.training.metrics import Ints


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good a network is.

    Attributes:
        winner: Its folder and name, for people.
        data: Which images it was measured on, in words.
        classes: Names, in the order of the logits.
        confusion: Images of each class (row) that were given each class (column), ``[C, C]``.
        calibration_error: Expected calibration error over 15 bins, in [0, 1].
        unreadable: Images that could not be read or decoded, with the reason.
        left_out: Images of each class that the network does not know.
    """

    winner: str
    data: str
    classes: tuple[str, ...]
    confusion: Ints
    calibration_error: float
    unreadable: dict[str, str]
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Images that it was measured on."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of the images that got their label."""
        return score("accuracy", self.confusion)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have images."""
        return score("balanced_accuracy", self.confusion)

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that have images."""
        return score("macro_f1", self.confusion)

    @property
    def per_class(self) -> PerClass:
        """Precision, recall, F1 and count of each class."""
        return per_class(self.confusion)

    def rows(self) -> list[dict[str, object]]:
        """Return a mapping for each class; what has nothing to divide is None."""
        each, given = self.per_class, self.confusion.sum(axis=0)
        return [
            {
                "class": name,
                "precision": float(each.precision[place]) if given[place] else None,
                "recall": float(each.recall[place]) if each.count[place] else None,
                "f1": float(each.f1[place]) if each.count[place] or given[place] else None,
                "count": int(each.count[place]),
            }
            for place, name in enumerate(self.classes)
        ]

    def to_dict(self) -> dict[str, object]:
        """Return all of it, JSON-like."""
        return {
            "winner": self.winner,
            "data": self.data,
            "images": self.images,
            "unreadable": self.unreadable,
            "left_out": self.left_out,
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "expected_calibration_error": self.calibration_error,
            "classes": self.rows(),
            "confusion": self.confusion.tolist(),
        }


def evaluate(
    winner: Place,
    data: Data,
    *,
    split: str | None = None,
    batch_size: int | None = None,
    device: Device = "auto",
    known_only: bool = False,
    trust: bool = False,
    changes: Sequence[str] = (),
) -> Evaluation:
    """Measure a network on labelled images; classes are matched by name.

    Args:
        winner: Folder of an exported network, or a run directory, whose winner is taken; a local
            path or an fsspec URI.
        data: A run file (``.yaml``), whose target is meant; the name of a data set (``digits``,
            ``hf:NAME``, …); a folder, a Parquet file or tar shards, by path or URI; or a section
            ``dataset`` of a run file as a mapping.
        split: ``train``, ``validation``, ``test`` or ``all``. Default: of a run file the test of
            the run; of anything else its own test, or all images where it has none.
        batch_size: Images at once; default: what suits the device.
        device: ``auto``: a GPU if there is one.
        known_only: Leave out images of classes that the network does not know.
        trust: Whether the folder may name code (:func:`zoo_search.load`).
        changes: Laid over the run file, such as ``("dataset.seed=1",)``.

    Raises:
        UserError: If there is no such network, data set or split, no image can be read, or the
            data set has classes that the network does not know.
    """
    where = check(device, batch_size)
    found = open_winner(winner, trust=trust)
    images = open_labelled(data, split, found.transform.value_range, changes)
    places = _matched(found, images, known_only)
    of = places[images.labels]
    left_out = {
        images.classes[n]: int((images.labels == n).sum()) for n in np.flatnonzero(places < 0)
    }
    ids = [name for name, known in zip(images.ids, of >= 0, strict=True) if known]
    looked = look(found.net, found.transform, images.reader, ids, where, batch_size)
    if not len(looked.places):
        named = some([f"{name} ({reason})" for name, reason in looked.unreadable.items()])
        raise UserError(f"None of the {len(ids)} images of {images.told} can be read: {named}.")
    labels = of[of >= 0][looked.places]
    _tell(found, images, labels)
    return Evaluation(
        str(found),
        images.told,
        found.classes,
        confusion(labels, looked.probabilities.argmax(axis=1), len(found.classes)),
        calibration_error(looked.probabilities.astype(np.float64), labels),
        looked.unreadable,
        {name: count for name, count in left_out.items() if count},
    )


def _matched(winner: Winner, images: Labelled, known_only: bool) -> Ints:
    """Return the network's place of each class of the data set; -1 for one it does not know."""
    place = {name: number for number, name in enumerate(winner.classes)}
    places = np.array([place.get(name, -1) for name in images.classes], dtype=np.int64)
    counts = np.bincount(images.labels, minlength=len(places))
    unknown = [images.classes[n] for n in np.flatnonzero((places < 0) & (counts > 0))]
    known, strange = (some(names, ", ", " and") for names in (winner.classes, unknown))
    if not ((places >= 0) & (counts > 0)).any():
        raise UserError(
            f"No class of {images.told} is one of the network's: there {strange}, here {known}. "
            f"Classes are matched by name. Give images of what the network knows, "
            "with its names."
        )
    if unknown and not known_only:
        raise UserError(
            f"The network does not know {len(unknown)} of the {len(places)} classes of "
            f"{images.told}: {strange}.{nearest(unknown[0], winner.classes)} It knows "
            f"{known}. Classes are matched by name: rename these, or leave their images out "
            "with --known-only."
        )
    return places


def _tell(winner: Winner, images: Labelled, labels: Ints) -> None:
    """Say what an evaluation does not show by itself."""
    counts = np.bincount(labels, minlength=len(winner.classes))
    without = [winner.classes[place] for place in np.flatnonzero(counts == 0)]
    if without:
        warnings.warn(
            f"{len(without)} of the network's {len(counts)} classes have no images in "
            f"{images.told} ({some(without, ', ', ' and')}): they count in no average",
            Note,
            stacklevel=3,
        )
    if images.drawn:
        warnings.warn(
            f"these are {images.told}: images that the network was trained on may be among them. "
            "Give the run file (.yaml) for the test of the run, or --split",
            Note,
            stacklevel=3,
        )
