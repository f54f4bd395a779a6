"""The network that a place names: an exported folder, or a run directory with its winner."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo_search.core.errors import UserError, first_line
from zoo_search.core.files import Place
from zoo_search.core.foreign.copies import fetched
from zoo_search.core.progress import working
from zoo_search.core.store import RunStore
from zoo_search.core.version import check_format
from zoo_search.export.config import CONFIG, RECIPE, STATE, preprocess_of, read_config
from zoo_search.export.folder import load
from zoo_search.finetune.entries import WINNERS, Winners, best

if TYPE_CHECKING:
    from zoo_search.data.preprocess import Preprocess
    from zoo_search.networks.network import ReassembledNet

_FOLDER = re.compile(r"winners/\d+")


@dataclass(frozen=True, eq=False)
class Winner:
    """A network, ready to look at images.

    Attributes:
        place: Its folder, as it is told.
        name: What it is called, as in ``reassembly 1``; empty where the folder says nothing.
        net: In eval mode, on the CPU.
        transform: Preprocessing, that of the training.
        classes: Names, in the order of the logits.
    """

    place: str
    name: str
    net: ReassembledNet
    transform: Preprocess
    classes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place} ({self.name})" if self.name else self.place


def open_winner(place: Place, *, trust: bool = False) -> Winner:
    """Load the network of an exported folder, or the winner of a run directory.

    Of a run directory that is the best reassembly on its validation images, as the run told it.

    Args:
        place: A local path or an fsspec URI.
        trust: Whether it may name code (:func:`zoo_search.load`).

    Raises:
        UserError: If there is neither, or the network cannot be loaded.
    """
    path = os.fspath(place)
    store = RunStore(path, "The winner")
    try:
        is_folder, is_run = store.exists(CONFIG), store.exists(WINNERS)
    except Exception as error:  # each storage raises errors of its own
        raise UserError(
            f"{path} cannot be reached ({type(error).__name__}: {first_line(error)}). Check the "
            "network and the credentials that this storage needs."
        ) from error
    if not is_folder and not is_run:
        raise UserError(
            f"There is no network at {path}: it has neither a {CONFIG}, as the folder of a winner, "
            f"nor a {WINNERS}, as the directory of a finished run. Give a folder such as "
            "runs/digits/winners/0, or a directory such as runs/digits."
        )
    if not is_folder:
        check_format(store)
        path = f"{path.rstrip('/')}/{_best_of(store)}"
    with working(f"loading {path}"), fetched(path, (CONFIG, RECIPE, STATE)) as folder:
        try:
            net, config = load(folder, trust=trust), read_config(folder)
        except UserError as error:
            told = str(error)
            raise UserError(told if str(folder) in told else f"{folder}: {told}") from None
    name = str(config["metadata"].get("name", ""))
    return Winner(path, name, net, preprocess_of(config), tuple(config["classes"]))


def _best_of(store: RunStore) -> str:
    """Return the folder of a run's winner, inside its directory."""
    try:
        found = best(Winners.read(store).results, "reassembly")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{store.path(WINNERS)} is damaged ({first_line(error)}). Run the command that made it "
            "again, or give the folder of a winner."
        ) from None
    if found is None or not _FOLDER.fullmatch(found.folder or ""):
        raise UserError(
            f"{store.path(WINNERS)} names no folder of a reassembly. Give the folder of a network, "
            f"such as {store.path('winners/0')}."
        )
    return str(found.folder)
