"""What a file's tensors are made of: what becomes float32, and what is refused.

======================================  ==========================================================
a file whose tensors are                answer
======================================  ==========================================================
float64, float16, bfloat16              taken, as the network's own type; said
quantised: 8-bit types, integers        refused with their names
sparse, complex, or without values      refused with their names
NaN or infinite                         refused with their names, and how many values
tied in the network, one of them there  taken for all of them
tied in the network, and different      refused with their names
======================================  ==========================================================
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo_search.core.errors import UserError, some

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""Types of weights that are taken."""

_BYTES = (torch.int8, torch.uint8)  # no network has tables of these


def check_types(own: Mapping[str, Tensor], found: Mapping[str, Tensor], who: str) -> str:
    """Return what is to be said of the types of a file's tensors, ``""`` if they are the network's.

    Args:
        own: The network's state.
        found: The file's tensors, by the network's names.
        who: Whose they are, for messages: a place in the run file and a file.

    Raises:
        UserError: If a tensor of the network is quantised, sparse, complex or without values.
    """
    named = {key: found[key] for key in own if key in found}
    mine = {key: tensor for key, tensor in named.items() if own[key].is_floating_point()}
    empty = [key for key, tensor in named.items() if tensor.is_meta]
    if empty:
        raise UserError(
            f"{who} holds names and shapes without values (meta tensors): "
            f"{some(empty, ', ', ' and')}. Save the state dict again from a network whose weights "
            "were loaded."
        )
    odd = {k: t for k, t in found.items() if t.is_quantized or (t.ndim > 1 and t.dtype in _BYTES)}
    odd |= {key: tensor for key, tensor in mine.items() if _is_quantised(tensor)}
    if odd:
        raise UserError(
            f"{who} holds quantised weights: {_kinds(odd)}. The zoo computes with floating point "
            "numbers, and the scales of such weights are their tool's own. Give the weights from "
            "before the quantisation, or dequantise them with the tool that made them."
        )
    if odd := {key: t for key, t in named.items() if t.layout != torch.strided or t.is_complex()}:
        raise UserError(
            f"{who} holds weights of a kind that no network here has: {_kinds(odd)}. Save them as "
            "dense tensors of real numbers (tensor.to_dense())."
        )
    kinds = {
        str(t.dtype).removeprefix("torch.") for k, t in mine.items() if t.dtype != own[k].dtype
    }
    target = {str(own[key].dtype).removeprefix("torch.") for key in mine}
    return f"{' and '.join(sorted(kinds))} taken as {' and '.join(sorted(target))}" if kinds else ""


def in_float32(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a module of a user's own in float32, and what is to be said of it."""
    kinds = {t.dtype for t in module.state_dict().values() if t.is_floating_point()}
    odd = sorted(str(kind).removeprefix("torch.") for kind in kinds - {torch.float32})
    return (module.float(), (f"{' and '.join(odd)} taken as float32",)) if odd else (module, ())


def check_finite(module: nn.Module, who: str) -> None:
    """Refuse parameters, and statistics of batch norms, that are not finite.

    Raises:
        UserError: If there are any: names up to five tensors, and how many values.
    """
    state = module.state_dict()
    names = {name for name, _ in module.named_parameters()}
    names |= {key for key in state if key.endswith(("running_mean", "running_var"))}
    bad = []
    for name in (key for key in state if key in names):
        if not bool((finite := torch.isfinite(state[name])).all()):
            count, size = finite.numel() - int(finite.sum()), finite.numel()
            bad.append(f"{name} ({count:,} of {size:,})")
    if bad:
        raise UserError(
            f"{who} holds values that are not finite (NaN or infinite): {some(bad, ', ', ' and')}. "
            "The training that wrote them went wrong, the file is damaged, or float16 was too "
            "small for them. Give an earlier checkpoint."
        )


def with_tied(
    module: nn.Module, found: Mapping[str, Tensor], who: str
) -> tuple[dict[str, Tensor], str]:
    """Fill in what a file leaves out since the network ties it to another tensor.

    Files keep tied tensors once (safetensors), or under all of their names (torch).

    Returns:
        The tensors, and what is to be said of it.

    Raises:
        UserError: If tensors that the network ties differ in the file.
    """
    tied: dict[int, list[str]] = defaultdict(list)
    for key, parameter in module.named_parameters(remove_duplicate=False):
        tied[id(parameter)].append(key)
    filled, state = [], dict(found)
    for keys in tied.values():
        there = [key for key in keys if key in found]
        for key in keys if len(keys) > 1 and there else ():
            if key not in found:
                state[key] = found[there[0]]
                filled.append(key)
            elif not _same(found[key], found[there[0]]):
                raise UserError(
                    f"{who} has different values for '{there[0]}' and '{key}', which the network "
                    "ties: they are one tensor. Give weights that were trained with them tied, or "
                    "an architecture that does not tie them."
                )
    return state, f"tied: {some(filled, ', ', ' and')}" if filled else ""


def _same(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return True  # one of them does not fit, which is told elsewhere
    return torch.allclose(a.to(torch.float64), b.to(torch.float64), rtol=0, atol=0, equal_nan=True)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Say whether two tensors are the same, NaN included, whatever type they have.

    What is sparse, quantised or without values counts as the same where type and shape are:
    :func:`check_types` refuses it, whichever of the two is taken.
    """
    if a is b:
        return True
    if (a.dtype, a.layout, a.is_nested) != (b.dtype, b.layout, b.is_nested):
        return False
    if a.is_nested:
        return True
    if a.shape != b.shape or a.layout != torch.strided or a.is_quantized or a.is_meta or b.is_meta:
        return a.shape == b.shape
    # torch.equal lacks the 8-bit floats where the two share their memory.
    own, other = (t.detach().resolve_conj().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(own, other)


def _is_quantised(tensor: Tensor) -> bool:
    return tensor.is_quantized or (tensor.dtype not in FLOATS and not tensor.is_complex())


def _kinds(tensors: Mapping[str, Tensor]) -> str:
    words = [f"{k} ({_dtype(t)})" for k, t in tensors.items()]
    return some(words, ", ", " and")


def _dtype(tensor: Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    return (
        kind if tensor.layout == torch.strided else f"{kind}, {tensor.layout}".replace("torch.", "")
    )
