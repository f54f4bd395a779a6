"""Transfer: copy matched weights, centre crop to centre crop (DPIAT, section 3.4, appendix A.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from zoo_search.dpiat.layers import Layer
from zoo_search.dpiat.matching import Match, match
from zoo_search.dpiat.ranking import block_similarity
from zoo_search.dpiat.report import LayerTransfer, TransferReport
from zoo_search.dpiat.standardize import Block, standardize
from zoo_search.errors import UserError

__all__ = ["centre_crops", "transfer"]

Slices = tuple[slice, ...]


def transfer(source: nn.Module, target: nn.Module) -> TransferReport:
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

    Returns:
        What was copied from where.

    Raises:
        UserError: If a network has no parameters, parameters that cannot be copied, or no data
            (meta device), if the target cannot be written to, or if the two have no layer type in
            common. The target is unchanged.

    Source: section 3; the mapping is that of appendix A.2.
    """
    target_blocks, source_blocks = standardize(target), standardize(source)
    _require_data(target_blocks, "target")
    _require_data(source_blocks, "source")
    _require_writable(target_blocks)
    matching = match(target_blocks, source_blocks)
    if not matching.matches:
        raise UserError(
            "The source and the target have no layer type in common: the source has "
            f"{_kinds(source_blocks)}, the target {_kinds(target_blocks)}. Weights only move "
            "between layers of one type: choose another source."
        )
    shared = _storages(target_blocks) & _storages(source_blocks)
    pairs = [list(_views(pair.target, pair.source)) for pair in matching.matches]
    # Whatever can fail (memory, conversion) happens here, before the target is written to.
    staged = [[(into, _stage(data, into, shared)) for into, data in views] for views in pairs]
    with torch.no_grad():
        for views in staged:
            for into, data in views:
                into.copy_(data)
    layers = tuple(_entry(m, views) for m, views in zip(matching.matches, pairs, strict=True))
    filled = {id(pair.target) for pair in matching.matches}
    everything = [layer for block in target_blocks for layer in block]
    return TransferReport(
        similarity=block_similarity(target_blocks, source_blocks),
        score=matching.score,
        layers=layers,
        untouched=tuple(layer.name for layer in everything if id(layer) not in filled),
        copied=sum(layer.copied for layer in layers),
        total=_values(t for layer in everything for t in layer.tensors.values()),
    )


def centre_crops(target: Sequence[int], source: Sequence[int]) -> tuple[Slices, Slices]:
    """Return the slices of the centre crops of two tensors with equally many dimensions.

    In each dimension the larger size x is cropped to the smaller one y, from floor((x - y) / 2).

    Source: appendix A.2, the function g.
    """
    both = list(zip(target, source, strict=True))
    return tuple(_crop(t, s) for t, s in both), tuple(_crop(s, t) for t, s in both)


def _crop(own: int, other: int) -> slice:
    start = max(0, own - other) // 2
    return slice(start, start + min(own, other))


def _views(target: Layer, source: Layer) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Views of equal shape into the tensors that both layers have, target first."""
    for role, into in target.tensors.items():
        data = source.tensors.get(role)
        if data is None or data.dim() != into.dim():
            continue
        parts = target.parts if target.parts == source.parts else 1
        for t, s in zip(_split(into, parts), _split(data, parts), strict=True):
            t_crop, s_crop = centre_crops(t.shape, s.shape)
            yield t[t_crop], s[s_crop]


def _split(tensor: torch.Tensor, parts: int) -> list[torch.Tensor]:
    """``parts`` equal views along dimension 0; detached, so that they can be written to."""
    data = tensor.detach()
    return list(torch.chunk(data, parts)) if parts > 1 else [data]


def _stage(data: torch.Tensor, into: torch.Tensor, shared: set[int]) -> torch.Tensor:
    """``data`` as it will be written; a copy if the two networks share the memory."""
    copy = data.untyped_storage().data_ptr() in shared
    return data.to(device=into.device, dtype=into.dtype, copy=copy)


def _storages(blocks: Sequence[Block]) -> set[int]:
    tensors = (t for block in blocks for layer in block for t in layer.tensors.values())
    return {t.untyped_storage().data_ptr() for t in tensors if t.numel() > 0}


def _entry(pair: Match, views: list[tuple[torch.Tensor, torch.Tensor]]) -> LayerTransfer:
    copied = _values(into for into, _ in views)
    return LayerTransfer(pair.target.name, pair.source.name, pair.target.kind, pair.score, copied)


def _values(tensors: Iterable[torch.Tensor]) -> int:
    """Number of floating point values; counters of batches do not count."""
    return sum(t.numel() for t in tensors if t.is_floating_point())


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
