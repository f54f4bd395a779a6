"""Checkpoint files: read them without running code, and match them to a module strictly."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo_search.core.errors import UserError, first_line, some

# Where training scripts put the weights; averaged weights first, as they are what is evaluated.
_WRAPPERS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict",
    "model", "module", "net", "params",
)  # fmt: skip
_PREFIXES = ("_orig_mod.", "module.", "model.")
_COUNTER = "num_batches_tracked"
_ROLES = frozenset({"weight", "bias", "running_mean", "running_var", _COUNTER})


def read_checkpoint(path: Path, where: str) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors`` or torch file, in its order, out of usual wrappers.

    Raises:
        UserError: If the file would run code when unpickled, or holds no weights.
    """
    if path.suffix == ".safetensors":
        import safetensors
        from safetensors.torch import load_file

        try:
            loaded: object = load_file(path, device="cpu")
        except safetensors.SafetensorError as error:
            raise UserError(f"{where}: {path.name} is not a safetensors file ({error}).") from None
    else:
        loaded = _load_torch(path, where)
    return _unwrap(loaded, path, where)


def _load_torch(path: Path, where: str) -> object:
    import argparse

    try:
        # Training scripts keep their arguments as a Namespace beside the weights: plain data.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|unrecognized function) (\S+)", str(error))
        kind = ", but no torch checkpoint of plain tensors, and loading any other may run code"
        if asked is not None:
            kind = f" that would call '{asked[1]}' while it is read, and a file that runs code is "
            kind += "never loaded"
        raise UserError(
            f"{where}: {path.name} is refused: it is a pickle{kind}. Weights must be tensors in "
            "plain containers. Ask the author for a .safetensors file or a state dict, or save one "
            "yourself with torch.save(model.state_dict(), 'weights.pth') where you trust the file."
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise UserError(
            f"{where}: {path.name} is not a torch checkpoint, or it is cut short "
            f"({first_line(error)[:200]})."
        ) from None


def _unwrap(loaded: object, path: Path, where: str) -> dict[str, Tensor]:
    """Return the innermost mapping of tensors, without the prefixes of wrapper modules."""
    seen = loaded
    while isinstance(seen, Mapping):
        inner = next((seen[k] for k in _WRAPPERS if isinstance(seen.get(k), Mapping)), None)
        if inner is None:
            break
        seen = inner
    tensors = {}
    if isinstance(seen, Mapping):
        tensors = {str(k): v for k, v in seen.items() if isinstance(v, Tensor)}
        tensors.pop("n_averaged", None)  # torch.optim.swa_utils.AveragedModel
    if not tensors:
        keys = ", ".join(map(str, list(loaded)[:8])) if isinstance(loaded, Mapping) else ""
        found = keys or type(loaded)
        raise UserError(
            f"{where}: {path.name} holds no weights that are known here (found: {found}). "
            f"Allowed: a state dict, or one under a key such as {', '.join(_WRAPPERS[4:7])}."
        )
    while prefix := next((p for p in _PREFIXES if all(k.startswith(p) for k in tensors)), None):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def without_counters(module: nn.Module, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``found`` with batch norm's batch counters as the module has them.

    ``num_batches_tracked`` takes no part in inference, and old files lack it: one that is missing
    keeps the module's own value, one that the module lacks is left out.
    """
    own = module.state_dict()
    kept = {k: v for k, v in found.items() if k in own or not k.endswith(_COUNTER)}
    missing = {k: v for k, v in own.items() if k.endswith(_COUNTER) and k not in kept}
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
        bare_own = {k: v for k, v in own.items() if not k.endswith(_COUNTER)}
        bare_found = {k: v for k, v in found.items() if not k.endswith(_COUNTER)}
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
