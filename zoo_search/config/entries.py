"""Sections of a run file that name networks and say how they start."""

from __future__ import annotations

import typing
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from zoo_search.config.paths import Weights
from zoo_search.config.section import LATE, AsList, Plain, Section, as_list

HookRole = Literal["zoo", "plain", "candidate", "variant"]
HOOK_ROLES: tuple[HookRole, ...] = typing.get_args(HookRole)


class HookConfig(Section):
    """One init hook: what starts the parts of a network that have no pre-trained weights."""

    hook: str
    """``dpiat``, ``least_squares``, ``random``, a registered name, or
    ``module:package.mod:function``."""
    roles: Annotated[tuple[HookRole, ...], Field(min_length=1), AsList] = HOOK_ROLES
    """What it is called for: models of the zoo without weights (``zoo``), plain architectures that
    are only fine-tuned (``plain``), stitches and heads of reassembled networks (``candidate``),
    changed winners (``variant``)."""
    options: Plain = Field(default_factory=dict)
    """What the hook itself understands; ``dpiat``: ``matching`` and ``operator``."""


def _as_hooks(value: object) -> object:
    """Let a single hook stand without a list, and a hook without options by its name."""
    items = as_list(value)
    if not isinstance(items, list | tuple):
        return value
    return [{"hook": item} if isinstance(item, str) else item for item in items]


Hooks = Annotated[tuple[HookConfig, ...], BeforeValidator(_as_hooks)]


Finite = Annotated[float, Field(allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ZooEntry(Section):
    """One model of the zoo: an architecture and where its weights come from."""

    arch: str
    """A timm name, or ``module:package.mod:factory``."""
    kwargs: Plain = Field(default_factory=dict)
    weights: Weights | None = "timm"
    """``timm``, ``hf-hub:ORG/NAME``, ``package:NAME/FILE``, ``pretrained_on:DATASET``, a path or
    URI, ``own`` (the module as its factory gives it), or null: then the hooks of ``init`` fill
    them; DPIAT from the most similar model."""
    state: Annotated[str | None, LATE] = None
    """Which weights of a file that holds several: ``ema`` for averaged ones, or the keys that lead
    to them, such as ``state_dict_ema`` or ``state_dict.teacher``; default: those of the network
    itself, not averaged ones beside them."""
    source: str | None = None
    """Where ``weights`` is null: the model of the zoo that DPIAT takes from, instead of the most
    similar one."""
    key_order: bool = False
    """Match tensors in order when names differ and every shape agrees."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    mean: tuple[Finite, Finite, Finite] | None = None
    std: tuple[Deviation, Deviation, Deviation] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic"] | None = None
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = None
    license: str | None = None

    @model_validator(mode="after")
    def _own(self) -> ZooEntry:
        given = {"sha256": self.sha256, "state": self.state, "key_order": self.key_order or None}
        for name in (name for name, value in given.items() if value is not None):
            if self.weights in ("own", None) and (name == "state" or self.weights == "own"):
                raise ValueError(
                    f"{name} is for weights from a file, but weights is "
                    f"{'null' if self.weights is None else self.weights}: leave one of them out"
                )
        if self.weights == "own" and not self.arch.startswith("module:"):
            raise ValueError(
                f"weights: own is for a factory of a module (module:package.mod:factory) that "
                f"brings its weights; '{self.arch}' is a timm name: write weights: timm"
            )
        return self


class PlainEntry(ZooEntry):
    """An architecture that takes no part in the search and is only fine-tuned."""

    weights: Weights | None = None
    """As in the zoo, but ``pretrained_on``; default: the hooks of ``init`` fill them."""
    init: Hooks | None = None
    """Hooks for this one instead of those of the run."""


class ModelChange(Section):
    """What is another architecture in a changed winner."""

    arch: str | None = None
    kwargs: Plain = Field(default_factory=dict)
    """Laid over those of the model."""

    @model_validator(mode="after")
    def _changes(self) -> ModelChange:
        if self.arch is None and not self.kwargs:
            raise ValueError("it changes nothing: give arch or kwargs")
        return self


class VariantConfig(Section):
    """A winner that is widened, deepened or given another input size (DPIAT section 1.2)."""

    of: str = "reassembly 1"
    """Name of the fine-tuned network that it starts from, as in the report."""
    input_size: Annotated[int, Field(ge=8)] | None = None
    models: dict[str, ModelChange] = Field(default_factory=dict)
    """By model: another architecture of its family, or other arguments; those that the winner's
    recipe does not hold are left aside."""
    init: Hooks | None = None
    """Hooks for this one instead of those of the run."""

    @model_validator(mode="after")
    def _changes(self) -> VariantConfig:
        if self.input_size is None and not self.models:
            raise ValueError("it changes nothing: give input_size or models")
        return self
