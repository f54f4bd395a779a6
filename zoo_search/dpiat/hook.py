"""DPIAT as an init hook: it fills what has no pre-trained weights (DPIAT, section 1.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zoo_search.core.errors import UserError
from zoo_search.dpiat.ranking import rank_sources
from zoo_search.dpiat.transfer import check_operators, transfer
from zoo_search.hooks import Context, Filled, Piece, hook_traits
from zoo_search.hooks.report import describe_donors


@hook_traits(
    options=("matching", "operator"),
    check=lambda option, value: check_operators(**{option: str(value)}),
)
def dpiat(module: nn.Module, context: Context) -> Filled:
    """Fill each piece from its most similar donor (Eq. 5), in place.

    A model of the zoo or a plain architecture takes from the models with weights; a stitch takes
    from the node that makes its output in the next block's own model, a head from the head of the
    last block's model; a changed winner takes from the winner, as it was trained. Where a stitch or
    head and its donor have no layer type in common, its 1×1 convolutions are tried as linear
    layers, and else it stays as it was. What lies outside the centre crops keeps its values.

    The options may hold ``matching`` and ``operator`` (:func:`zoo_search.dpiat.transfer`).

    Raises:
        UserError: If an option is unknown, or nothing can be given to a whole network.
    """
    told = [_fill(piece, context) for piece in context.pieces]
    facts = told[0] if context.role != "candidate" and told else {"pieces": told}
    donors, summary = describe_donors(told)
    return Filled(facts, fitted=context.role == "variant", donors=donors, summary=summary)


def _fill(piece: Piece, context: Context) -> dict[str, Any]:
    """Fill one piece and say from where, and how much of it."""
    # Stitches and heads of candidates may stay as they are.
    new = context.role == "candidate"
    targets = (piece.module, _as_linear(piece.module)) if new else (piece.module,)
    name = next(iter(piece.donors), "")
    if len(piece.donors) > 1:
        name = rank_sources(piece.module, piece.donors)[0][0]
    for target in targets if piece.donors else ():
        try:
            report = transfer(piece.donors[name], target, **context.options, seed=context.seed)
        except UserError:  # no layer type in common, or the donor has no parameters there
            if not new:
                raise
            continue
        return {
            "piece": piece.name,
            "source": name,
            "similarity": round(report.similarity, 6),
            "coverage": round(report.coverage, 6),
            "layers": len(report.layers),
            "untouched": len(report.untouched),
        }
    return {"piece": piece.name, "source": None}


def _as_linear(module: nn.Module) -> nn.Module:
    """Return linear layers on the memory of the module's 1×1 convolutions and linear layers."""
    twins = nn.ModuleList()
    for layer in module.modules():
        if isinstance(layer, nn.Linear) or (
            isinstance(layer, nn.Conv2d) and set(layer.kernel_size) == {1}
        ):
            out, channels = layer.weight.shape[:2]
            with torch.device("meta"):
                twin = nn.Linear(channels, out, bias=layer.bias is not None)
            twin.weight = nn.Parameter(layer.weight.detach().view(out, channels))
            if layer.bias is not None:
                twin.bias = nn.Parameter(layer.bias.detach())
            twins.append(twin)
    return twins
