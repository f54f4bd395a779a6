"""DPIAT as an init hook: it fills what has no pre-trained weights (DPIAT, section 1.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo_search.dpiat.ranking import rank_sources
from zoo_search.dpiat.transfer import check_operators, transfer
from zoo_search.errors import UserError, nearest

if TYPE_CHECKING:
    from zoo_search.dpiat.report import TransferReport
    from zoo_search.hooks import Context, Filled, Piece

__all__ = ["check_options", "dpiat"]

_OPTIONS = ("matching", "operator")


def dpiat(module: nn.Module, context: Context) -> Filled:
    """Fill each piece from its most similar donor (Eq. 5), in place.

    A model of the zoo or a plain architecture takes from the models with weights; a stitch takes
    from the node that makes its output in the next block's own model, a head from the head of the
    last block's model; a changed winner takes from the winner, as it was trained. Where a stitch or
    head and its donor have no layer type in common, its 1×1 convolutions are tried as linear
    layers, and else it stays as it was. What lies outside the centre crops keeps its values.

    Args:
        module: The network that the pieces belong to.
        context: Its options may hold ``matching`` and ``operator``
            (:func:`zoo_search.dpiat.transfer`).

    Raises:
        UserError: If an option is unknown, or nothing can be given to a whole network.
    """
    from zoo_search.hooks import Filled

    check_options(context.options)
    told = [_fill(piece, context) for piece in context.pieces]
    facts = told[0] if context.role != "candidate" and told else {"pieces": told}
    return Filled(facts, fitted=context.role == "variant")


def check_options(options: Mapping[str, Any], where: str = "dpiat") -> None:
    """Check the hook's options.

    Raises:
        UserError: If one is unknown, or names no operator of DPIAT.
    """
    for option, value in options.items():
        if option not in _OPTIONS:
            raise UserError(
                f"{where}: the init hook 'dpiat' has no option '{option}'."
                f"{nearest(option, _OPTIONS)} Allowed: {', '.join(_OPTIONS)}."
            )
        try:
            check_operators(**{option: str(value)})
        except UserError as error:
            raise UserError(f"{where}.{option}: {error}") from None


def _fill(piece: Piece, context: Context) -> dict[str, Any]:
    """Fill one piece and say from where, and how much of it."""
    if not piece.donors:
        return {"piece": piece.name, "source": None}
    name = next(iter(piece.donors))
    if len(piece.donors) > 1:
        name = rank_sources(piece.module, piece.donors)[0][0]
    report = _transfer(piece, piece.donors[name], context)
    if report is None:
        return {"piece": piece.name, "source": None}
    return {
        "piece": piece.name,
        "source": name,
        "similarity": round(report.similarity, 6),
        "coverage": round(report.coverage, 6),
        "layers": len(report.layers),
        "untouched": len(report.untouched),
    }


def _transfer(piece: Piece, donor: nn.Module, context: Context) -> TransferReport | None:
    options: Mapping[str, Any] = {**context.options, "seed": context.seed}
    if context.role != "candidate":
        return transfer(donor, piece.module, **options)
    for target in (piece.module, _as_linear(piece.module)):
        try:
            return transfer(donor, target, **options)
        except UserError:  # no layer type in common, or the donor has no parameters there
            continue
    return None


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
