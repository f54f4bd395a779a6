"""The network that a word names, and weights files that say whose weights they are.

A word is a model of a run file's zoo, the folder of a winner, a file that :func:`write_weights`
wrote, ``ARCH@FILE`` (a timm name and its weights), or a timm name (its hub weights).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_search.config import JobConfig, ZooEntry, load_job
from zoo_search.core.errors import UserError, nearest
from zoo_search.core.files import Place, is_file, joined, write
from zoo_search.core.foreign.copies import fetched
from zoo_search.core.json_text import read_json
from zoo_search.zoo.build import build, is_timm
from zoo_search.zoo.load import load_zoo
from zoo_search.zoo.weights import SUFFIXES

if TYPE_CHECKING:
    from torch import nn

_BARE = {"name": "transfer", "dataset": "digits", "zoo": {"none": {"arch": "none"}}}
_KEY = "zoo_search"  # of the header of a weights file: the zoo entry, as JSON

Built = Mapping[str, object]
"""The part of a zoo entry that builds an architecture: ``arch`` and ``kwargs``."""


class Words:
    """Finds networks by words; ``job`` is the run file whose zoo they may name, with ``changes``.

    With ``trust``, files and folders may name code that builds their networks.

    Raises:
        UserError: If the run file cannot be read.
    """

    def __init__(
        self, job: Path | None = None, changes: Sequence[str] = (), *, trust: bool = False
    ) -> None:
        self.config: JobConfig = load_job(_BARE if job is None else job, changes)
        self.trust = trust
        self._zoo = {} if job is None else self.config.zoo

    def file_of(self, word: str) -> str:
        """Return the file or folder that the network of a word is read from, if there is one."""
        if word in self._zoo:
            return str(self._zoo[word].weights)
        return _arch_and_file(word)[1] or word

    def network(self, word: str, *, fill: bool) -> tuple[nn.Module, Built | None]:
        """Return the network that a word means, and what builds it (None: a reassembled one).

        A model of the zoo or a timm name comes with its weights where ``fill`` says so, else with
        random values. Networks from files and folders have their own either way.

        Raises:
            UserError: If there is no such network, its weights are missing, or, without ``trust``,
                a file or folder names code.
        """
        entry, own = self._zoo.get(word), False
        arch, file = _arch_and_file(word)
        is_folder = "://" not in file and _is_there(joined(word, "config.json"))
        if entry is None and is_folder:
            from zoo_search.export.folder import load

            return load(word, trust=self.trust), None
        if entry is None:
            own = bool(arch) or _is_there(word)
            if own:
                entry = ZooEntry(arch=arch, weights=file) if arch else self._described(word)
            else:
                entry = self._timm_entry(word)
        if fill or own:
            alone = self.config.model_copy(update={"zoo": {word: entry}})
            model = load_zoo(alone)[word]
            module, entry = model.module, model.spec  # with the arguments that its weights ask for
        else:
            module = build(
                entry.arch, entry.kwargs, f"zoo.{word}", self.config.input_size, self.config.seed
            )
        return module, entry.model_dump(mode="json", include={"arch", "kwargs"})

    def _described(self, path: str) -> ZooEntry:
        """Return the entry in the header of a weights file, at a path or URI."""
        from zoo_search.zoo.size import SizeBudget
        from zoo_search.zoo.trust import architecture_of

        where = f"The header of {path}"
        with fetched(path) as file:
            said, stored = _header_of(file), file.stat().st_size
        arch, kwargs = architecture_of(said, where, trust=self.trust)
        if not self.trust:
            SizeBudget(stored, where).take(arch, kwargs, f"zoo.{path}", self.config.input_size)
        return ZooEntry(arch=arch, kwargs=kwargs, weights=path)

    def _timm_entry(self, word: str) -> ZooEntry:
        """Return the entry of a timm name, or say what the word could have been."""
        import timm

        entry = ZooEntry(arch=word)
        if not is_timm(word) or timm.is_model(word.partition(".")[0]):
            return entry
        if word.endswith(SUFFIXES) or "/" in word:
            raise UserError(
                f"There is no file or folder '{word}'. Give a file that 'zoo-search transfer' "
                "wrote, ARCH@FILE for any other weights, or the folder of a winner."
            )
        models = f", and no model of the zoo ({', '.join(self._zoo)})" if self._zoo else ""
        raise UserError(
            f"There is no network '{word}': it is no file, no name that timm {timm.__version__} "
            f"knows{models}.{nearest(word, [*self._zoo, *timm.list_models()])} Give a timm name, "
            "ARCH@FILE, a file that 'zoo-search transfer' wrote, the folder of a winner, or, with "
            "--job, a model of a run file's zoo."
        )


def _arch_and_file(word: str) -> tuple[str, str]:
    """Return the two of ``ARCH@FILE``; empty ones of another word, as a URI with an @ in it."""
    arch, at, file = word.partition("@")
    return (arch, file) if at and "://" not in arch else ("", "")


def _is_there(place: str) -> bool:
    """Say whether a word is a file; of most words, which are names, nothing is looked up."""
    try:
        return is_file(place)
    except UserError:
        if "://" in place:
            raise
        return False


def write_weights(path: Place, network: nn.Module, built: Built | None) -> None:
    """Write the weights as safetensors, with the architecture in the header."""
    from safetensors.torch import save

    state = {k: v.contiguous().clone() for k, v in network.state_dict().items()}
    header = {_KEY: json.dumps(built)} if built else None
    write(path, save(state, header))


def _header_of(path: Path) -> Mapping[str, object]:
    """Return what the header of a weights file says of its architecture."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY)
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file ({error}).") from error
    cure = f"Write the timm name before it: ARCH@{path}."
    if header is None:
        raise UserError(f"{path} does not say which architecture its weights belong to. {cure}")
    try:
        said = read_json(header)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise UserError(f"The header of {path} is damaged: it holds no JSON mapping. {cure}")
    return said
