"""From an architecture (a timm name, or the user's own factory) to a module, weights aside."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypedDict, cast

import torch
from torch import Tensor, nn

from zoo_search.core.errors import UserError, first_line, nearest
from zoo_search.core.imports import PREFIX, import_named, import_timm

Kwargs = Mapping[str, Any]
"""Keyword arguments of an architecture, as the run file says them."""

OPENING = frozenset({
    "cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay",
    "pretrained_filter_fn", "pretrained_model_args", "pretrained_strict",
})  # fmt: skip
"""Arguments by which timm itself would fetch, open or change weights, past ``sha256``."""


class TimmFacts(TypedDict, total=False):
    """What timm knows of an architecture's weights, as far as it is asked for here."""

    url: str
    hf_hub_id: str | None
    hf_hub_filename: str | None
    license: str | None
    num_classes: int
    input_size: tuple[int, int, int]
    fixed_input_size: bool
    interpolation: str
    crop_pct: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


def is_timm(arch: str) -> bool:
    """Return whether an architecture is a timm name."""
    return not arch.startswith(PREFIX)


def build(
    arch: str,
    kwargs: Kwargs,
    place: str,
    input_size: int | None = None,
    seed: int = 0,
    state_dict: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Build the module of an architecture in eval mode, with seeded random weights.

    Args:
        arch: A timm name, or ``module:package.mod:factory``.
        kwargs: Its keyword arguments.
        place: Where the run file asks for it, such as ``zoo.lite0``, for messages.
        input_size: Height and width that the run asks for; default: the model's own.
        seed: Of the random weights; the global random state stays as it was.
        state_dict: Weights that timm shall fit to the architecture by its own rules (renamed
            keys, position embeddings of another size) and load strictly.

    Raises:
        UserError: If the architecture is unknown, does not take its keyword arguments, or cannot
            take the size.
        Exception: Whatever timm raises if ``state_dict`` is given and does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if is_timm(arch):
            module = _from_timm(arch, kwargs, place, input_size, state_dict)
        else:
            module = _from_factory(arch, kwargs, place)
    return module.eval()


def pretrained_cfg_of(arch: str) -> TimmFacts:
    """Return timm's pretrained configuration of an architecture, ``{}`` where there is none."""
    cfg = import_timm().get_pretrained_cfg(arch) if is_timm(arch) else None
    return {} if cfg is None else cast(TimmFacts, dataclasses.asdict(cfg))


def own_size(arch: str, kwargs: Kwargs) -> int:
    """Return the input height and width that an architecture is made for."""
    size = kwargs.get("img_size")
    if size is None:
        size = (pretrained_cfg_of(arch).get("input_size") or (3, 224, 224))[1:]
    return int(size if isinstance(size, int) else max(size))


def family_of(arch: str) -> str:
    """Return the model family: timm's module of the architecture, or the factory's module."""
    if not is_timm(arch):
        return arch.removeprefix(PREFIX).partition(":")[0].rpartition(".")[2]
    module: str = import_timm().model_entrypoint(arch.partition(".")[0]).__module__
    return module.rpartition(".")[2]


def _from_timm(
    arch: str,
    kwargs: Kwargs,
    place: str,
    input_size: int | None,
    state_dict: Mapping[str, Tensor] | None,
) -> nn.Module:
    timm = import_timm()
    name, _, tag = arch.partition(".")
    if not timm.is_model(name):
        raise UserError(
            f"{place}.arch: timm {timm.__version__} knows no architecture '{name}'."
            f"{nearest(name, timm.list_models())} Give a name that timm.list_models() lists, or "
            "'module:package.mod:factory' for a module of your own."
        )
    known = [n.partition(".")[2] for n in timm.list_pretrained(f"{name}.*")] if tag else []
    if tag and tag not in known:
        raise UserError(
            f"{place}.arch: timm has no weights '{tag}' for '{name}'.{nearest(tag, known)} "
            f"Allowed after the dot: {', '.join(known) or 'nothing'}."
        )
    if weights := sorted(OPENING.intersection(kwargs)):
        raise UserError(
            f"{place}.kwargs: {', '.join(weights)} would let timm open weights by itself, past "
            f"every check. Name them as {place}.weights, which 'sha256' can hold, and leave "
            f"{'these' if len(weights) > 1 else 'this'} out."
        )
    asked = {**kwargs, **_size_kwargs(arch, kwargs, place, input_size)}
    overlay: dict[str, object] | None = None
    if state_dict is not None:
        classes = asked.get("num_classes", pretrained_cfg_of(arch).get("num_classes", 1000))
        overlay = {"state_dict": dict(state_dict), "num_classes": classes}
    try:
        module: nn.Module = timm.create_model(
            arch, pretrained=overlay is not None, pretrained_cfg_overlay=overlay, **asked
        )
    except UserError:  # of whoever watches how large it is
        raise
    except Exception as error:  # the author's code meets arguments that it was not written for
        if state_dict is not None:
            raise
        raise UserError(
            f"{place}: timm cannot build '{arch}' with {asked or 'no arguments'}: "
            f"{first_line(error)}. Mend the kwargs, or the input_size of the run (the model's own "
            f"is {own_size(arch, kwargs)})."
        ) from None
    cfg = getattr(module, "pretrained_cfg", None)
    if isinstance(cfg, dict):
        cfg.pop("state_dict", None)
    return module


def _size_kwargs(arch: str, kwargs: Kwargs, place: str, input_size: int | None) -> dict[str, int]:
    """Return ``img_size`` for architectures that are made for one size only."""
    if input_size is None or own_size(arch, kwargs) == input_size:
        return {}
    if (given := kwargs.get("img_size")) is not None:
        raise UserError(
            f"{place}.kwargs.img_size is {given} but the run's input_size is {input_size}: "
            "every model runs at input_size. Make them equal, or leave one of them out."
        )
    fixed = pretrained_cfg_of(arch).get("fixed_input_size") and not kwargs.get("dynamic_img_size")
    return {"img_size": input_size} if fixed else {}


def _from_factory(arch: str, kwargs: Kwargs, place: str) -> nn.Module:
    where = f"{place}.arch '{arch}'"
    factory = import_named(arch, where)
    try:
        module = factory(**kwargs)
    except TypeError as error:
        raise UserError(
            f"{where}: the factory does not take {kwargs or 'no arguments'}: "
            f"{first_line(error)}. Mend {place}.kwargs."
        ) from None
    except Exception as error:  # the author's code, which may fetch weights, too
        raise UserError(
            f"{where}: the factory fails with {kwargs or 'no arguments'}: "
            f"{type(error).__name__}: {first_line(error)}. Mend {place}.kwargs, or the factory."
        ) from error
    if not isinstance(module, nn.Module):
        raise UserError(
            f"{where}: the factory returned {type(module).__name__}, not a torch.nn.Module."
        )
    return module
