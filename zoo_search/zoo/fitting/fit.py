"""From a file with weights to a network that holds them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from zoo_search.config import ZooEntry
from zoo_search.core.errors import UserError, some
from zoo_search.core.files import sha256_of
from zoo_search.zoo import checkpoint
from zoo_search.zoo.build import build, is_timm
from zoo_search.zoo.fitting import values
from zoo_search.zoo.fitting.channels import CHANNELS
from zoo_search.zoo.fitting.heads import CLASSES, other_heads
from zoo_search.zoo.fitting.names import Chosen, choose
from zoo_search.zoo.hub import WeightsFile


@dataclass(frozen=True, eq=False)
class Loaded:
    """A network with its weights.

    Attributes:
        kwargs: The arguments that build its architecture.
        notes: What is to be said of how the file was taken.
    """

    module: nn.Module
    kwargs: dict[str, Any]
    notes: tuple[str, ...]


def load_weights(
    module: nn.Module, source: WeightsFile, entry: ZooEntry, place: str, input_size: int | None
) -> Loaded:
    """Check the file's hash and load it strictly.

    The network's tensors are found in the file by the network's own names
    (:mod:`~zoo_search.zoo.fitting.names`), and names and shapes must agree; with ``key_order``
    tensors are matched in order instead. Else a network with the file's classes, or without a
    head, gets a try (:mod:`~zoo_search.zoo.fitting.heads`), and timm's own rules for the
    architecture (old names, position embeddings at another size); they load strictly too.

    Raises:
        UserError: If the hash is wrong, the file would run code, or tensors do not fit: up to five
            are named with expected and found shapes; if values are quantised or not finite.
    """
    where = f"{place}.weights"
    if entry.sha256 is not None:
        actual = sha256_of(source.path)
        if actual != entry.sha256:
            raise UserError(
                f"{place}.sha256: {source.words} has sha256 {actual}, the run file says "
                f"{entry.sha256}. The file is not the one that was meant: fetch it again, or "
                "write the new hash if you trust the file."
            )
    states, who = checkpoint.read_checkpoint(source.path, where), f"{where}: {source.words}"
    own, in_order = module.state_dict(), entry.key_order
    chosen = choose(own, states, entry.state, where, source.words, in_order=in_order)
    types = values.check_types(own, chosen.tensors, who)
    loaded = _load(module, chosen, entry, place, input_size, who)
    values.check_finite(loaded.module, who)
    left_out = chosen.beside if in_order else chosen.left_out(loaded.module.state_dict())
    without = f"left out: {some(left_out, ', ', ' and')}" if left_out else ""
    notes = (*chosen.notes, without, types, *loaded.notes)
    return Loaded(loaded.module, loaded.kwargs, tuple(note for note in notes if note))


def _load(
    module: nn.Module, chosen: Chosen, entry: ZooEntry, place: str, input_size: int | None, who: str
) -> Loaded:
    """Load the tensors into the network, or into one with another head."""

    def make(kwargs: Mapping[str, Any], state: Mapping[str, Tensor] | None = None) -> nn.Module:
        return build(entry.arch, kwargs, place, input_size, state_dict=state)

    kwargs = dict(entry.kwargs)
    problem, said = _fill(module, chosen, who)
    if problem is None:
        return Loaded(module, kwargs, (said,))
    if entry.key_order:
        matched, problem = checkpoint.in_key_order(module, chosen.tensors)
        if problem is None:
            types = values.check_types(module.state_dict(), matched, who)
            module.load_state_dict(checkpoint.without_counters(module, matched), strict=True)
            return Loaded(module, kwargs, (types,))
        raise UserError(
            f"{who} does not fit '{entry.arch}' even in order: {problem}. Give the weights of this "
            "very architecture and kwargs."
        )
    own = module.state_dict()
    tried = [(kwargs, "", own)]
    for other, asked, words in other_heads(own, chosen.tensors, entry.arch, kwargs, make):
        failed, said = _fill(other, chosen, who)
        if failed is None:
            return Loaded(other, asked, (words, said))
        tried.append((asked, words, other.state_dict()))
    for asked, words, expected in tried if is_timm(entry.arch) else ():
        for state in (chosen.tensors, chosen.own(expected), chosen.whole):
            # A filter of timm's meets a file that it was not written for: any error may come.
            with contextlib.suppress(Exception):
                return Loaded(make(asked, state), asked, (words,))
    raise UserError(
        f"{who} does not fit '{entry.arch}': {problem}. {_cure(own, chosen.tensors, kwargs)}"
    )


def _cure(own: Mapping[str, Tensor], found: Mapping[str, Tensor], kwargs: Mapping[str, Any]) -> str:
    """Say what to do about tensors that do not fit."""
    cure = "Give the weights of this very architecture and kwargs"
    if CLASSES in kwargs:
        cure += (
            f"; leave {CLASSES} out, and the classes are the file's (networks for your images get "
            "a head of their own)"
        )
    channels = {
        found[key].shape[1]
        for key, tensor in own.items()
        if key in found and tensor.ndim == found[key].ndim == 4 and tensor.shape[1] == 3
    }
    if channels == {1} and CHANNELS not in kwargs:
        cure += f"; kwargs: {{{CHANNELS}: 1}} if it was trained on grey images"
    elif channels and not channels & {1, 3}:
        cure += f" (these are for images of {min(channels)} channels, but images here are RGB)"
    return cure + "; or key_order: true if only the names differ."


def _fill(module: nn.Module, chosen: Chosen, who: str) -> tuple[str | None, str]:
    """Load strictly; return what does not fit, or None, and what is to be said."""
    state, said = values.with_tied(module, chosen.own(module.state_dict()), who)
    state = checkpoint.without_counters(module, state)
    problem = checkpoint.describe_mismatch(module, state)
    if problem is None:
        module.load_state_dict(state, strict=True)
    return problem, said
