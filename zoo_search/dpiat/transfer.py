"""Transfer: matched weights from one network into another, in place (DPIAT, section 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from zoo_search.dpiat.bipartite import match_bipartite, match_blocks_bipartite, match_random
from zoo_search.dpiat.layers import Layer
from zoo_search.dpiat.matching import Match, Matching, match
from zoo_search.dpiat.operators import OPERATORS, Copies
from zoo_search.dpiat.ranking import block_similarity
from zoo_search.dpiat.report import LayerTransfer, TransferReport, Untouched
from zoo_search.dpiat.standardize import Block, standardize
from zoo_search.errors import UserError, nearest

__all__ = ["MATCHINGS", "check_operators", "match_by_name", "transfer"]

Matcher = Callable[[Sequence[Block], Sequence[Block]], Matching]

MATCHINGS: dict[str, Matcher] = {
    "dp": match,
    "bipartite": match_bipartite,
    "nbipartite": match_blocks_bipartite,
    "random": match_random,
}


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
        source: The network with the weights to use; it is left as it is.
        target: The network to fill.
        matching: ``"dp"`` (the method), or one to compare it with (appendix B.8):
            ``"bipartite"``, ``"nbipartite"``, ``"random"``.
        operator: ``"clip"`` (the method), or one to compare it with: ``"clip_norm"``, ``"full"``,
            ``"magnitude"``.
        seed: For random matching.

    Returns:
        What was copied from where.

    Raises:
        UserError: If an operator is unknown, a network has no parameters, parameters that cannot
            be copied, or no data (meta device), if the target cannot be written to, or if the two
            have no layer type in common. The target is unchanged.

    Source: section 3; the mapping is that of appendix A.2.
    """
    check_operators(matching, operator)
    copies_of = OPERATORS[operator]
    target_blocks, source_blocks = standardize(target), standardize(source)
    _require_data(target_blocks, "target")
    _require_data(source_blocks, "source")
    _require_writable(target_blocks)
    matched = match_by_name(matching, target_blocks, source_blocks, seed)
    if not matched.matches:
        raise UserError(
            "The source and the target have no layer type in common: the source has "
            f"{_kinds(source_blocks)}, the target {_kinds(target_blocks)}. Weights only move "
            "between layers of one type: choose another source."
        )
    shared = _storages(target_blocks) & _storages(source_blocks)
    # Whatever can fail (memory, conversion) happens here, before the target is written to.
    staged = [
        [(into, _stage(data, into, shared)) for into, data in copies]
        for copies in copies_of(matched.matches)
    ]
    with torch.no_grad():
        for copies in staged:
            for into, data in copies:
                into.copy_(data)
    layers = tuple(map(_entry, matched.matches, staged))
    return TransferReport(
        similarity=block_similarity(target_blocks, source_blocks),
        score=matched.score,
        matching=matching,
        operator=operator,
        layers=layers,
        untouched=_untouched(target_blocks, source_blocks, matched),
        copied=sum(layer.copied for layer in layers),
        total=sum(_size(layer) for block in target_blocks for layer in block),
    )


def check_operators(matching: str = "dp", operator: str = "clip") -> None:
    """Check the names of a matching and of a transfer operator.

    Raises:
        UserError: If there is no such operator; names the nearest one.
    """
    _known(matching, MATCHINGS, "matching")
    _known(operator, OPERATORS, "transfer operator")


def match_by_name(
    matching: str, target: Sequence[Block], source: Sequence[Block], seed: int = 0
) -> Matching:
    """Match two standardized networks by a named operator; ``seed`` is for ``"random"``.

    Raises:
        UserError: If there is no such operator.
    """
    if _known(matching, MATCHINGS, "matching") == "random":
        return match_random(target, source, seed)
    return MATCHINGS[matching](target, source)


def _known(name: str, allowed: Iterable[str], what: str) -> str:
    if name not in allowed:
        raise UserError(
            f"There is no {what} '{name}' in DPIAT.{nearest(name, allowed)} Allowed: "
            f"{', '.join(allowed)}."
        )
    return name


def _untouched(
    target: Sequence[Block], source: Sequence[Block], matched: Matching
) -> tuple[Untouched, ...]:
    """The target's layers that kept their values, with the reason."""
    filled = {id(pair.target) for pair in matched.matches}
    kinds = {layer.kind for block in source for layer in block}
    types = {(layer.kind, len(layer.shape)) for block in source for layer in block}
    left = []
    for layer in (x for block in target for x in block if id(x) not in filled):
        if layer.kind not in kinds:
            reason = "the source has no layer of this type"
        elif (layer.kind, len(layer.shape)) not in types:
            reason = "the source has this type with other numbers of dimensions only"
        else:
            reason = "the source's layers of this type went to other layers"
        left.append(Untouched(layer.name, layer.kind, layer.shape, reason))
    return tuple(left)


def _stage(data: torch.Tensor, into: torch.Tensor, shared: set[int]) -> torch.Tensor:
    """``data`` as it will be written; a copy if the two networks share the memory."""
    copy = data.untyped_storage().data_ptr() in shared
    return data.to(device=into.device, dtype=into.dtype, copy=copy)


def _storages(blocks: Sequence[Block]) -> set[int]:
    tensors = (t for block in blocks for layer in block for t in layer.tensors.values())
    return {t.untyped_storage().data_ptr() for t in tensors if t.numel() > 0}


def _entry(pair: Match, copies: Copies) -> LayerTransfer:
    return LayerTransfer(
        target=pair.target.name,
        source=pair.source.name,
        kind=pair.target.kind,
        score=pair.score,
        copied=sum(into.numel() for into, _ in copies if into.is_floating_point()),
        total=_size(pair.target),
        target_shape=pair.target.shape,
        source_shape=pair.source.shape,
    )


def _size(layer: Layer) -> int:
    """Number of floating point values; counters of batches do not count."""
    return sum(t.numel() for t in layer.tensors.values() if t.is_floating_point())


def _require_data(blocks: Sequence[Block], which: str) -> None:
    for block in blocks:
        for layer in block:
            if any(t.is_meta for t in layer.tensors.values()):
                raise UserError(
                    f"The {which}'s layer {layer.name} is on the meta device and has no values. "
                    "A transfer needs both networks with data: load the weights, or use "
                    "to_empty() and an initialisation; ranking alone works without."
                )


def _require_writable(blocks: Sequence[Block]) -> None:
    for block in blocks:
        for layer in block:
            for t in layer.tensors.values():
                expanded = any(
                    n > 1 and step == 0 for n, step in zip(t.shape, t.stride(), strict=True)
                )
                if expanded or (t.is_inference() and not torch.is_inference_mode_enabled()):
                    why = (
                        "repeats one value in memory" if expanded else "was made in inference mode"
                    )
                    raise UserError(
                        f"The target's layer {layer.name} cannot be written to: a tensor of it "
                        f"{why}. Build the target without expand() and outside "
                        "torch.inference_mode()."
                    )


def _kinds(blocks: Sequence[Block]) -> str:
    return ", ".join(sorted({layer.kind for block in blocks for layer in block}))
