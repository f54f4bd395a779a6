"""From an entry of the zoo to a module with the right shape, weights aside.

An architecture is a timm name with keyword arguments, or ``module:package.mod:factory``: a
callable of the user's that returns a plain torch module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo_search.config import ZooEntry
from zoo_search.errors import UserError, first_line, nearest
from zoo_search.named import PREFIX, import_named

__all__ = ["build", "family_of", "is_timm", "own_size", "pretrained_cfg_of"]

_DEFAULT_SIZE = 224


def is_timm(entry: ZooEntry) -> bool:
    """Return whether the entry's architecture is a timm name."""
    return not entry.arch.startswith(PREFIX)


def build(
    entry: ZooEntry,
    name: str,
    input_size: int | None = None,
    seed: int = 0,
    state_dict: Mapping[str, Tensor] | None = None,
    *,
    section: str = "zoo",
) -> nn.Module:
    """Build the module of a zoo entry in eval mode, with seeded random weights.

    Args:
        entry: Architecture and keyword arguments.
        name: Name of the entry, for messages.
        input_size: Height and width that the run asks for; default: the model's own.
        seed: Seed of the random weights; the global random state stays as it was.
        state_dict: Weights that timm shall fit to the architecture by its own rules (renamed
            keys, position embeddings of another size) and load strictly.
        section: Section of the run file that the entry stands in, for messages.

    Raises:
        UserError: If the architecture is unknown, does not take its keyword arguments, or cannot
            take the size.
        Exception: Whatever timm raises if ``state_dict`` is given and does not fit.
    """
    place = f"{section}.{name}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if is_timm(entry):
            module = _from_timm(entry, place, input_size, state_dict)
        else:
            module = _from_factory(entry, place)
    return module.eval()


def pretrained_cfg_of(entry: ZooEntry) -> dict[str, Any]:
    """Return timm's pretrained configuration of the architecture, ``{}`` where there is none."""
    if not is_timm(entry):
        return {}
    import timm

    cfg = timm.get_pretrained_cfg(entry.arch)
    return {} if cfg is None else dataclasses.asdict(cfg)


def own_size(entry: ZooEntry) -> int:
    """Return the input height and width that the architecture is made for."""
    size = entry.kwargs.get("img_size")
    if size is None:
        size = (pretrained_cfg_of(entry).get("input_size") or (3, _DEFAULT_SIZE, _DEFAULT_SIZE))[1:]
    return int(size if isinstance(size, int) else max(size))


def family_of(entry: ZooEntry) -> str:
    """Return the model family: timm's module of the architecture, or the factory's module."""
    if not is_timm(entry):
        return entry.arch.removeprefix(PREFIX).partition(":")[0].rpartition(".")[2]
    import timm

    module: str = timm.model_entrypoint(entry.arch.partition(".")[0]).__module__
    return module.rpartition(".")[2]


def _from_timm(
    entry: ZooEntry, place: str, input_size: int | None, state_dict: Mapping[str, Tensor] | None
) -> nn.Module:
    import timm

    arch, _, tag = entry.arch.partition(".")
    if not timm.is_model(arch):
        raise UserError(
            f"{place}.arch: timm {timm.__version__} knows no architecture '{arch}'."
            f"{nearest(arch, timm.list_models())} Give a name that timm.list_models() lists, or "
            "'module:package.mod:factory' for a module of your own."
        )
    names = timm.list_pretrained(f"{arch}.*") if tag else []
    known = [n.partition(".")[2] for n in names]
    if tag and tag not in known:
        raise UserError(
            f"{place}.arch: timm has no weights '{tag}' for '{arch}'.{nearest(tag, known)} "
            f"Allowed after the dot: {', '.join(known) or 'nothing'}."
        )
    kwargs = {**entry.kwargs, **_size_kwargs(entry, place, input_size)}
    overlay: dict[str, Any] = {}
    if state_dict is not None:
        classes = kwargs.get("num_classes", pretrained_cfg_of(entry).get("num_classes", 1000))
        overlay = {
            "pretrained_cfg_overlay": {"state_dict": dict(state_dict), "num_classes": classes}
        }
    try:
        module: nn.Module = timm.create_model(
            entry.arch, pretrained=state_dict is not None, **overlay, **kwargs
        )
    except Exception as error:  # the author's code meets arguments that it was not written for
        if state_dict is not None:
            raise
        raise UserError(
            f"{place}: timm cannot build '{entry.arch}' with {kwargs or 'no arguments'}: "
            f"{first_line(error)}. Mend the kwargs, or the input_size of the run (the model's own "
            f"is {own_size(entry)})."
        ) from None
    cfg = getattr(module, "pretrained_cfg", None)
    if isinstance(cfg, dict):
        cfg.pop("state_dict", None)
    return module


def _size_kwargs(entry: ZooEntry, place: str, input_size: int | None) -> dict[str, Any]:
    """Return ``img_size`` for architectures that are made for one size only."""
    if input_size is None:
        return {}
    given = entry.kwargs.get("img_size")
    if given is not None:
        if own_size(entry) != input_size:
            raise UserError(
                f"{place}.kwargs.img_size is {given} but the run's input_size is {input_size}: "
                "every model runs at input_size. Make them equal, or leave one of them out."
            )
        return {}
    cfg = pretrained_cfg_of(entry)
    fixed = cfg.get("fixed_input_size") and not entry.kwargs.get("dynamic_img_size")
    return {"img_size": input_size} if fixed and own_size(entry) != input_size else {}


def _from_factory(entry: ZooEntry, place: str) -> nn.Module:
    """Import ``package.mod`` and call ``factory(**kwargs)``."""
    where = f"{place}.arch '{entry.arch}'"
    factory = import_named(entry.arch, where)
    try:
        module = factory(**entry.kwargs)
    except TypeError as error:
        raise UserError(
            f"{where}: the factory does not take {entry.kwargs or 'no arguments'}: "
            f"{first_line(error)}. Mend {place}.kwargs."
        ) from None
    if not isinstance(module, nn.Module):
        raise UserError(
            f"{where}: the factory returned {type(module).__name__}, not a torch.nn.Module."
        )
    return module
