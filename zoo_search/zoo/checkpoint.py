"""Checkpoint files: read them without running code, and match them to a module strictly."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor, nn

from zoo_search.core.errors import UserError, clipped, some
from zoo_search.core.files import gb
from zoo_search.zoo.pickles import load_torch

States = Mapping[str, Mapping[str, Tensor]]
"""The mappings of tensors in a file, by the keys that lead there (``"model.ema"``; ``""``: all)."""

_COUNTER = "num_batches_tracked"
_ROLES = frozenset({"weight", "bias", "running_mean", "running_var", _COUNTER})
_LONGEST = 1000  # signs of a name
_DEEPEST = 8  # mappings inside each other
_MOST = 1_000_000  # entries of all mappings, counted once for each way that leads to them
_REPEATED = 2**24  # bytes of a tensor that may be more than those that are stored of it


def read_checkpoint(path: Path, where: str) -> dict[str, dict[str, Tensor]]:
    """Return the mappings of tensors in a ``.safetensors`` or torch file, each in its order.

    They stand by the keys that lead to them, joined by dots: ``""`` is the file's own mapping.

    Raises:
        UserError: If the file would run code when unpickled, or holds no tensors by name; if it
            would take far more memory than it stores.
    """
    if path.suffix == ".safetensors":
        import safetensors
        from safetensors.torch import load_file

        try:
            loaded: object = load_file(path, device="cpu")
        except safetensors.SafetensorError as error:
            raise UserError(f"{where}: {path.name} is not a safetensors file ({error}).") from None
    else:
        loaded = load_torch(path, where)
    states: dict[str, dict[str, Tensor]] = {}
    inside: deque[tuple[tuple[str, ...], object]] = deque([((), loaded)])
    entries = 0
    while inside:  # breadth first: what lies on top comes first
        keys, seen = inside.popleft()
        if not isinstance(seen, dict) or len(keys) > _DEEPEST:
            continue
        entries += len(seen)
        if entries > _MOST:  # a mapping in many places, which holds another in many places, …
            raise UserError(
                f"{where}: {path.name} holds mappings inside each other with more than {_MOST:,} "
                "entries in all. Save its state dict alone: torch.save(model.state_dict(), …)."
            )
        # A pickle may give objects attributes: of an ordered mapping one that hides its method
        # `items`, of a tensor likewise. Neither is asked.
        items = [(str(key), value) for key, value in dict.items(seen)]
        if long := max((key for key, _ in items if len(key) > _LONGEST), key=len, default=""):
            # Every dot of a name may end what stands before the network's own.
            raise UserError(
                f"{where}: {path.name} holds a name of {len(long):,} signs, '{clipped(long)}'. "
                f"Names of weights have {_LONGEST:,} at most: save its state dict alone."
            )
        tensors = {key: _plain(value, key, path, where) for key, value in items if _is_dense(value)}
        tensors.pop("n_averaged", None)  # torch.optim.swa_utils.AveragedModel
        if tensors:
            states[".".join(keys)] = tensors
        inside += [((*keys, key), value) for key, value in items if isinstance(value, dict)]
    if not states:
        first = list(loaded)[:8] if isinstance(loaded, Mapping) else []
        keys_of = ", ".join(map(clipped, first))
        raise UserError(
            f"{where}: {path.name} holds no weights that are known here (found: "
            f"{keys_of or type(loaded)}). Allowed: a state dict, or one under keys such as "
            "state_dict, model_state_dict, model."
        )
    return states


def _is_dense(value: object) -> TypeGuard[Tensor]:
    """Say whether a value is a tensor of one shape, not a nested one.

    What is sparse, or has no values, is told where a network would need it.
    """
    return isinstance(value, Tensor) and not value.is_nested


def _plain(value: Tensor, key: str, path: Path, where: str) -> Tensor:
    """Return a tensor without what a file has put beside its values.

    Raises:
        UserError: If it repeats few stored values, so that it would take gigabytes of memory.
    """
    if value.layout != torch.strided or value.is_meta:
        return Tensor.detach(value)
    size = value.numel() * value.element_size()
    if size > max(_REPEATED, value.untyped_storage().nbytes()):
        raise UserError(
            f"{where}: {path.name} stores {gb(value.untyped_storage().nbytes())} of '{key}', which "
            f"are repeated to {gb(size)}. Weights are stored whole: save tensor.contiguous()."
        )
    return Tensor.detach(value)


def is_counter(key: str) -> bool:
    """Say whether a tensor is batch norm's batch counter, which takes no part in inference."""
    return key.endswith(_COUNTER)


def without_counters(module: nn.Module, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``found`` with batch norm's batch counters as the module has them.

    ``num_batches_tracked`` takes no part in inference, and old files lack it: one that is missing
    keeps the module's own value, one that the module lacks is left out.
    """
    own = module.state_dict()
    kept = {k: v for k, v in found.items() if k in own or not is_counter(k)}
    missing = {k: v for k, v in own.items() if is_counter(k) and k not in kept}
    return {**kept, **missing}


def describe_mismatch(module: nn.Module, found: Mapping[str, Tensor]) -> str | None:
    """Return what does not fit, or None: up to five tensors with expected and found shapes."""
    own = module.state_dict()
    lines = [
        f"{key}: expected {_shape(tensor)}, found {_shape(found.get(key))}"
        for key, tensor in own.items()
        if key not in found or found[key].shape != tensor.shape
    ]
    lines += [
        f"{key}: expected nothing of this name, found {_shape(tensor)}"
        for key, tensor in found.items()
        if key not in own
    ]
    return some(lines) or None


def in_key_order(
    module: nn.Module, found: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], str | None]:
    """Match tensors by position: same number, same shapes, same roles, in the same order.

    Batch counters are matched by position too where both sides have as many, and are left out on
    both sides otherwise (see :func:`without_counters`). A role is the last part of a name: a
    ``running_mean`` is never taken for a ``bias``, though their shapes agree.

    Returns:
        ``(state dict with the module's names, None)``, or ``({}, what does not fit)``.
    """
    own = module.state_dict()
    keys, problem = _pair(own, found)
    if problem is not None and len(own) != len(found):
        bare_own = {k: v for k, v in own.items() if not is_counter(k)}
        bare_found = {k: v for k, v in found.items() if not is_counter(k)}
        keys, problem = _pair(bare_own, bare_found)
    return {mine: found[theirs] for mine, theirs in keys}, problem


def _pair(
    own: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> tuple[list[tuple[str, str]], str | None]:
    """Pair names by position; no pairs and what does not fit if shapes, roles or numbers differ."""
    pairs = list(zip(own, found, strict=False))
    lines = [
        f"position {i}: expected {a} {_shape(own[a])}, found {b} {_shape(found[b])}"
        for i, (a, b) in enumerate(pairs)
        if own[a].shape != found[b].shape or not _same_role(a, b)
    ]
    if len(own) != len(found):
        lines.insert(0, f"expected {len(own)} tensors, found {len(found)}")
    return ([], some(lines)) if lines else (pairs, None)


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 over names, types, shapes and values, the same however they were stored."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _same_role(a: str, b: str) -> bool:
    roles = {a.rpartition(".")[2], b.rpartition(".")[2]}
    return len(roles) == 1 or not roles <= _ROLES


def _shape(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else str(tuple(tensor.shape))
