"""Transfer: matched weights from one network into another, in place (DPIAT, section 3.4)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from zoo_search.core.errors import UserError, require
from zoo_search.dpiat.bipartite import match_bipartite, match_blocks_bipartite, match_random
from zoo_search.dpiat.layers import Layer
from zoo_search.dpiat.matching import Matching, match
from zoo_search.dpiat.operators import OPERATORS
from zoo_search.dpiat.ranking import block_similarity
from zoo_search.dpiat.report import LayerTransfer, TransferReport, Untouched
from zoo_search.dpiat.standardize import Block, standardize

MATCHINGS: dict[str, Callable[[Sequence[Block], Sequence[Block]], Matching]] = {
    "dp": match,
    "bipartite": match_bipartite,
    "nbipartite": match_blocks_bipartite,
    "random": match_random,
}


@dataclass(frozen=True)
class MatchedNetworks:
    """Two networks as blocks of layers, and which source layer fills which target layer."""

    source: tuple[Block, ...]
    target: tuple[Block, ...]
    matching: str
    """Name of the matching operator."""
    found: Matching


def transfer(
    source: nn.Module,
    target: nn.Module,
    matching: str = "dp",
    operator: str = "clip",
    seed: int = 0,
) -> TransferReport:
    """Copy the weights of ``source`` into ``target``, in place, whatever the architectures.

    Layers are matched by type, shape and order; each matched tensor is copied centre crop to
    centre crop. What lies outside the crops, and layers without a match, keep their values. Types
    and devices are converted to the target's. Doing it twice changes nothing more.

    The same architecture is copied exactly. A wider one keeps the source's function (with zeros
    elsewhere, section 3.4) if every layer goes to its namesake; between networks of about twice
    the width, the scores may rather pair a stage with the next one of the same width.

    Args:
        matching: ``"dp"`` (the method), or one to compare it with (appendix B.8):
            ``"bipartite"``, ``"nbipartite"``, ``"random"``.
        operator: ``"clip"`` (the method), or one to compare it with: ``"clip_norm"``, ``"full"``,
            ``"magnitude"``.
        seed: For random matching.

    Raises:
        UserError: If an operator is unknown, a network has no parameters, parameters that cannot
            be copied, or no data (meta device), if the target cannot be written to, or if the two
            have no layer type in common. The target is unchanged.

    Source: section 3; the mapping is that of appendix A.2.
    """
    check_operators(matching, operator)
    return copy_matched(match_layers(source, target, matching, seed), operator)


def match_layers(
    source: nn.Module, target: nn.Module, matching: str = "dp", seed: int = 0
) -> MatchedNetworks:
    """Match the layers of two networks, on any device (meta too); ``seed`` is for ``"random"``.

    A UserError says that there is no such operator, or that a network cannot be matched.
    """
    taker, giver = standardize(target), standardize(source)
    check_operators(matching)
    random = matching == "random"
    found = match_random(taker, giver, seed) if random else MATCHINGS[matching](taker, giver)
    return MatchedNetworks(giver, taker, matching, found)


def copy_matched(networks: MatchedNetworks, operator: str = "clip") -> TransferReport:
    """Copy what :func:`match_layers` has matched, as :func:`transfer` does."""
    check_operators(operator=operator)
    source, target = [
        list(itertools.chain.from_iterable(blocks)) for blocks in (networks.source, networks.target)
    ]
    matches = networks.found.matches
    _require_data(target, "target")
    _require_data(source, "source")
    _require_writable(target)
    if not matches:
        raise UserError(
            "The source and the target have no layer type in common: the source has "
            f"{_kinds(source)}, the target {_kinds(target)}. Weights only move "
            "between layers of one type: choose another source."
        )
    # Where both networks share memory, what is read must be copied before anything is written.
    memory = [{_memory(t) for x in side for t in x.tensors.values()} for side in (target, source)]
    shared = memory[0] & memory[1]
    # Whatever can fail (memory, conversion) happens here, before the target is written to.
    staged = [
        [
            (into, data.to(into.device, into.dtype, copy=_memory(data) in shared))
            for into, data in copies
        ]
        for copies in OPERATORS[operator](matches)
    ]
    with torch.no_grad():
        for into, data in itertools.chain.from_iterable(staged):
            into.copy_(data)
    layers = tuple(
        LayerTransfer(
            target=pair.target.name,
            source=pair.source.name,
            kind=pair.target.kind,
            score=pair.score,
            copied=_size(into for into, _ in copies),
            total=_size(pair.target.tensors.values()),
            target_shape=pair.target.shape,
            source_shape=pair.source.shape,
        )
        for pair, copies in zip(matches, staged, strict=True)
    )
    filled = {id(pair.target) for pair in matches}
    types = {(layer.kind, len(layer.shape)) for layer in source}
    return TransferReport(
        similarity=block_similarity(networks.target, networks.source),
        score=networks.found.score,
        matching=networks.matching,
        operator=operator,
        layers=layers,
        untouched=tuple(_untouched(layer, types) for layer in target if id(layer) not in filled),
        copied=sum(layer.copied for layer in layers),
        total=sum(_size(layer.tensors.values()) for layer in target),
    )


def check_operators(matching: str = "dp", operator: str = "clip") -> None:
    """Raise a UserError with the nearest name if there is no such matching or operator."""
    require(matching, MATCHINGS, f"There is no matching '{matching}' in DPIAT.")
    require(operator, OPERATORS, f"There is no transfer operator '{operator}' in DPIAT.")


def _untouched(layer: Layer, types: set[tuple[str, int]]) -> Untouched:
    """A target layer that kept its values, with the reason; ``types`` are those of the source."""
    if (layer.kind, len(layer.shape)) in types:
        reason = "the source's layers of this type went to other layers"
    elif layer.kind in {kind for kind, _ in types}:
        reason = "the source has this type with other numbers of dimensions only"
    else:
        reason = "the source has no layer of this type"
    return Untouched(layer.name, layer.kind, layer.shape, reason)


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _size(tensors: Iterable[torch.Tensor]) -> int:
    """Number of floating point values; counters of batches do not count."""
    return sum(t.numel() for t in tensors if t.is_floating_point())


def _require_data(layers: Sequence[Layer], which: str) -> None:
    for layer in layers:
        if any(t.is_meta for t in layer.tensors.values()):
            raise UserError(
                f"The {which}'s layer {layer.name} is on the meta device and has no values. "
                "A transfer needs both networks with data: load the weights, or use "
                "to_empty() and an initialisation; ranking alone works without."
            )


def _require_writable(layers: Sequence[Layer]) -> None:
    for name, t in ((layer.name, t) for layer in layers for t in layer.tensors.values()):
        expanded = any(n > 1 and step == 0 for n, step in zip(t.shape, t.stride(), strict=True))
        if expanded or (t.is_inference() and not torch.is_inference_mode_enabled()):
            why = "repeats one value in memory" if expanded else "was made in inference mode"
            raise UserError(
                f"The target's layer {name} cannot be written to: a tensor of it {why}. "
                "Build the target without expand() and outside torch.inference_mode()."
            )


def _kinds(layers: Sequence[Layer]) -> str:
    return ", ".join(sorted({layer.kind for layer in layers}))
