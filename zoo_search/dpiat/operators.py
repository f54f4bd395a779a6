"""Transfer operators: which values of a matched source layer go where (DPIAT, appendix B.8).

Every operator writes whole rectangles of the target, so that what it gives is a list of
``(view into the target, values)`` for each match. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from zoo_search.dpiat.layers import Layer
from zoo_search.dpiat.matching import Match

Slices = tuple[slice, ...]
Copies = list[tuple[torch.Tensor, torch.Tensor]]
"""Views into the target, with the values that they are to hold."""
Operator = Callable[[Sequence[Match]], Iterator[Copies]]
"""From the matches, in the order of the target, to the copies that each of them makes."""

_NORMS = ("batch_norm", "instance_norm", "layer_norm", "group_norm", "rms_norm")


def clip(matches: Sequence[Match]) -> Iterator[Copies]:
    """Copy centre crop to centre crop; what lies outside keeps its values.

    Source: section 3.4, appendix A.2, ClipTransfer.
    """
    return ([_selected(t, s, {}) for _, t, s in _tensors(match)] for match in matches)


def clip_norm(matches: Sequence[Match]) -> Iterator[Copies]:
    """Copy as :func:`clip` does, and scale up weights that lost inputs.

    The paper asks for outputs of consecutive layers with similar variances and leaves open how.
    Here the crop of a convolution's or linear layer's weight is multiplied by the one factor that
    gives its rows (all weights into one output) the mean squared norm that the same rows have in
    the source. Inputs of equal variance then give outputs of the variance they had in the source,
    which its norm statistics expect. A layer that keeps all its inputs is copied as it is.

    Source: appendix B.8, ClipWithNormalization.
    """
    for match in matches:
        copies = []
        for role, t, s in _tensors(match):
            into, data = _selected(t, s, {})
            if role == "weight" and match.target.is_projection:
                data = data * _gain(match.source, s, data.shape)
            copies.append((into, data))
        yield copies


def full(matches: Sequence[Match]) -> Iterator[Copies]:
    """Copy as :func:`clip` does, and repeat the source where the target is larger.

    The source is laid side by side with itself, one whole copy in the place of the centre crop,
    until the target is full; values are not divided by the number of copies.

    Source: appendix B.8, FullTransfer.
    """
    for match in matches:
        copies = []
        for _, t, s in _tensors(match):
            into, out_of = centre_crops(t.shape, s.shape)
            data = s[out_of]
            for dim, (size, own) in enumerate(zip(t.shape, s.shape, strict=True)):
                # Position p of the target shows p - start of the source, modulo its size: the copy
                # that lies in the centre crop is whole, the others run on from its edges.
                if size > own:
                    tiled = (torch.arange(size, device=s.device) - into[dim].start) % own
                    data = data.index_select(dim, tiled)
            copies.append((t, data))
        yield copies


def magnitude(matches: Sequence[Match]) -> Iterator[Copies]:
    """Copy the channels of largest magnitude, in their order, where the source has more.

    The paper says that the connections between layers with the highest magnitude are copied, and
    leaves open how. Here a convolution or linear layer keeps the outputs whose weights have the
    largest norm, and the inputs likewise. A layer that takes channels from an earlier matched one
    of the same two widths (a norm, a depthwise convolution, the next layer's inputs) keeps the
    channels that were kept there, so that consecutive layers agree. Kernel positions, embeddings
    and bare parameters are centre crops, and larger targets are filled as by :func:`clip`.

    Source: appendix B.8, MagnitudeTransfer.
    """
    kept: dict[tuple[int, int], torch.Tensor] = {}
    for match in matches:
        tensors = list(_tensors(match))
        role, _, weight = tensors[0]
        chosen = _choose(match, tensors, kept)
        out = _out_dim(match.target)
        copies = []
        for r, t, s in tensors:
            per_output = s.dim() == 1 and len(s) == weight.shape[out] and out in chosen
            dims = chosen if r == role else {0: chosen[out]} if per_output else {}
            copies.append(_selected(t, s, dims))
        yield copies


OPERATORS: dict[str, Operator] = {
    "clip": clip,
    "clip_norm": clip_norm,
    "full": full,
    "magnitude": magnitude,
}


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


def _tensors(match: Match) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Role and tensors that both layers have, target first; fused projections one by one."""
    parts = match.target.parts if match.target.parts == match.source.parts else 1
    for role, into in match.target.tensors.items():
        data = match.source.tensors.get(role)
        if data is not None and data.dim() == into.dim():
            for t, s in zip(_split(into, parts), _split(data, parts), strict=True):
                yield role, t, s


def _split(tensor: torch.Tensor, parts: int) -> list[torch.Tensor]:
    """``parts`` equal views along dimension 0; detached, so that they can be written to."""
    data = tensor.detach()
    return list(torch.chunk(data, parts)) if parts > 1 else [data]


def _gain(layer: Layer, source: torch.Tensor, crop: Sequence[int]) -> float:
    """The factor that gives the rows of a centre crop the norm of the source's rows."""
    # The rows that were kept, with all their inputs (whole) and with those of the crop (part): the
    # ratio of their squared norms is what the sum of equal inputs lost in variance.
    out = _out_dim(layer)
    sizes = [crop[d] if d == out else n for d, n in enumerate(source.shape)]
    whole = source[centre_crops(sizes, source.shape)[1]].double().square().sum().item()
    part = source[centre_crops(crop, source.shape)[1]].double().square().sum().item()
    return float((whole / part) ** 0.5) if part > 0 else 1.0


def _choose(
    match: Match,
    tensors: Sequence[tuple[str, torch.Tensor, torch.Tensor]],
    kept: dict[tuple[int, int], torch.Tensor],
) -> dict[int, torch.Tensor]:
    """Channels to take from the source's weight, by dimension; ``kept`` remembers them by widths.

    Fused projections choose once for all, since queries and keys have to agree.
    """
    role, t, s = tensors[0]
    pairs = enumerate(zip(s.shape[:2], t.shape[:2], strict=True))
    widths = {d: (own, other) for d, (own, other) in pairs if own > other}
    if match.target.kind in _NORMS:
        return {d: kept[w].to(s.device) for d, w in widths.items() if w in kept}
    if not (match.target.is_projection and widths):
        return {}
    weight = torch.stack([x.double().square() for r, _, x in tensors if r == role]).sum(0)
    out = _out_dim(match.target)
    follows = {1 - out} | ({out} if s.shape[1 - out] == 1 else set())  # depthwise
    # Inputs first: they follow the outputs of the layer before, which ``kept`` still holds; then
    # this layer's own outputs take their place there.
    chosen = {}
    for d in sorted(widths, key=lambda d: d == out):
        if d in follows and widths[d] in kept:
            chosen[d] = kept[widths[d]].to(s.device)
        else:
            chosen[d] = _largest(weight, d, widths[d][1])
    if out in chosen:
        kept[widths[out]] = chosen[out]
    return chosen


def _out_dim(layer: Layer) -> int:
    """The dimension of a weight that counts its outputs."""
    return 1 if layer.kind.startswith("conv_transpose") else 0


def _largest(weights: torch.Tensor, dim: int, number: int) -> torch.Tensor:
    """Indices, in order, of the ``number`` slices along ``dim`` with the largest sums."""
    others = [d for d in range(weights.dim()) if d != dim]
    sums = weights.sum(others) if others else weights
    return sums.argsort(descending=True, stable=True)[:number].sort().values


def _selected(
    target: torch.Tensor, source: torch.Tensor, chosen: dict[int, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Centre crops, with some dimensions of the source taken by index instead."""
    into, out_of = centre_crops(target.shape, source.shape)
    data = source[tuple(slice(None) if d in chosen else c for d, c in enumerate(out_of))]
    for dim, indices in chosen.items():
        data = data.index_select(dim, indices)
    return target[into], data
