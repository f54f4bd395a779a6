"""The sections of a run file, with every default.

Defaults are filled in here and nowhere else; :meth:`JobConfig.to_yaml` writes the whole
configuration back, so that a run directory says exactly what made it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from zoo_search.config.entries import (
    HookConfig,
    Hooks,
    PlainEntry,
    Section,
    VariantConfig,
    ZooEntry,
)
from zoo_search.engine import PATIENCE
from zoo_search.errors import nearest

__all__ = [
    "BudgetConfig",
    "DatasetConfig",
    "FinetuneConfig",
    "JobConfig",
    "PartitionConfig",
    "SearchConfig",
    "SimilarityConfig",
]

Metric = Literal["cka", "cka_biased", "rbf_cka", "lr"]
Protocol = Literal["frozen", "full"]


class DatasetConfig(Section):
    """The target images and how they are split."""

    name: str
    """``digits``, ``mnist5k``, ``folder``, ``parquet``, ``torchvision:NAME`` or ``hf:NAME``."""
    path: str | None = None
    per_class: Annotated[int, Field(ge=1)] | None = None
    """Labelled training images a class; the rest is held out for the test."""
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    """Default: the seed of the run."""
    max_bad: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of files that may fail to decode; they are counted, named and skipped."""


class SimilarityConfig(Section):
    """DeRy section 3.2, Definition 3: how alike two cuts are."""

    metric: Metric = "cka"
    batch_size: Annotated[int, Field(ge=4)] = 256
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Share of the training images (DeRy section 4: 1/20)."""
    limit: Annotated[int, Field(ge=4)] | None = None
    pool: Literal["avg", "none"] = "avg"
    prefix: Literal["mean", "cls"] = "mean"
    """What stands for tokens where there are prefix tokens: the grid's, or the first prefix one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the forward pass; Gram matrices are made in fp32."""
    gram_dtype: Literal["float16", "float32"] = "float16"
    """Precision in which Gram matrices are stored."""
    compile: bool = False
    """Compile each block of a model with ``torch.compile`` before it runs."""
    window_mb: Annotated[int, Field(ge=1)] = 256
    """Decoded images in the object store at once, in 10^6 bytes; at least one batch."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Ray actors; default: one a CPU, or one a GPU where there are GPUs."""


class PartitionConfig(Section):
    """DeRy Eqs. 2-7; defaults of section 4."""

    k: Annotated[int, Field(ge=1)] = 4
    eps: Annotated[float, Field(ge=0)] = 0.2
    size: Literal["nodes", "params", "macs"] = "nodes"
    method: Literal["exact", "kl", "random"] = "exact"
    restarts: Annotated[int, Field(ge=1)] = 200
    one_per_set: bool = False
    """The blocks of a model lie in K different sets."""
    certify: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """Seconds to spend on a tight upper bound; 0: a fixed number of steps, about a second."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Ray actors; default: one a CPU."""


class BudgetConfig(Section):
    """Limits on a network (DeRy Eq. 9). MACs are multiply-adds for one image."""

    max_params: Annotated[float, Field(gt=0)] | None = None
    max_macs: Annotated[float, Field(gt=0)] | None = None
    min_params: Annotated[float, Field(ge=0)] = 0
    min_macs: Annotated[float, Field(ge=0)] = 0
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Milliseconds for a batch, measured on this device block by block and added up."""
    max_memory: Annotated[float, Field(gt=0)] | None = None
    """Peak activation memory for one image in fp32, in bytes."""
    licenses: tuple[str, ...] | None = None
    """Licences that blocks may come under, such as ``apache-2.0``; a model whose licence is not
    known is left out where there is a list."""
    latency_batch: Annotated[int, Field(ge=1)] = 1
    """Images of the batch that latency is measured with."""
    latency_threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of that measurement; default: as many as torch takes."""
    measure: tuple[Literal["latency", "memory"], ...] = ()
    """Costs to measure for every candidate although no limit asks for them."""

    @model_validator(mode="after")
    def _ordered(self) -> BudgetConfig:
        for what in ("params", "macs"):
            low, high = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if high is not None and low > high:
                raise ValueError(f"min_{what} {low:g} is above max_{what} {high:g}")
        return self


class SearchConfig(Section):
    """DeRy section 3.3 and "Implementation details": candidates and their training-free scores."""

    trials: Annotated[int, Field(ge=1)] = 500
    sampler: Literal["random", "tpe", "nsga2", "cpsat"] = "tpe"
    storage: str | None = None
    """Optuna storage of the study, such as ``sqlite:///study.db``; default: a journal file in the
    run directory."""
    proxies: Annotated[tuple[str, ...], Field(min_length=1)] = ("naswot",)
    """The first one ranks the candidates; ``docs/benchmarks.md`` says which one to trust."""
    fit_images: Annotated[int, Field(ge=8)] = 256
    """Target images that the least-squares stitches are fitted on."""
    batches: Annotated[int, Field(ge=1)] = 5
    batch_size: Annotated[int, Field(ge=2)] = 32
    workers: Annotated[int, Field(ge=1)] | None = None
    """Ray actors; default: one a CPU, or one a GPU where there are GPUs."""


class FinetuneConfig(Section):
    """DeRy section 4: FROZEN-TUNING (stitches and head) and FULL-TUNING (everything)."""

    winners: Annotated[int, Field(ge=1)] = 3
    protocol: Annotated[tuple[Protocol, ...], Field(min_length=1)] = ("frozen", "full")
    recipe: Literal["few-shot", "timm"] = "few-shot"
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs of each protocol; default: the recipe's."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    lr: Annotated[float, Field(gt=0)] | None = None
    baselines: tuple[Literal["best_single", "random"], ...] = ("best_single", "random")
    plain: dict[str, PlainEntry] = Field(default_factory=dict)
    """Architectures to fine-tune beside the winners ("what if I trained X instead?")."""
    variants: dict[str, VariantConfig] = Field(default_factory=dict)
    """Changed winners, fine-tuned from the weights that the winners ended with."""


def _check_free(section: str, names: Iterable[str], taken: Mapping[str, str]) -> None:
    for name in names:
        if name in taken:
            raise ValueError(f"{section}.{name}: {taken[name]} has this name; choose another")


def _require(place: str, word: str, allowed: list[str], what: str) -> None:
    if word not in allowed:
        raise ValueError(
            f"{place}: no {what}: '{word}'.{nearest(word, allowed)} "
            f"Allowed: {', '.join(allowed) or 'none'}"
        )


class JobConfig(Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: int = 0
    input_size: Annotated[int, Field(ge=8)] | None = None
    """Every model is traced at this size; default: each model's own."""
    patience: Annotated[float, Field(gt=0, allow_inf_nan=False)] = PATIENCE
    """Seconds that a step waits for a cluster that makes no progress at all."""
    zoo: Annotated[dict[str, ZooEntry], Field(min_length=1)]
    dataset: DatasetConfig
    init: Hooks = (
        HookConfig(hook="dpiat", roles=("zoo", "plain", "variant")),
        HookConfig(hook="least_squares", roles=("candidate",)),
    )
    """Hooks that start what has no pre-trained weights, in order; each finds what those before it
    have left. Without any, everything new stays at seeded random values."""
    similarity: SimilarityConfig = SimilarityConfig()
    partition: PartitionConfig = PartitionConfig()
    budget: BudgetConfig = BudgetConfig()
    search: SearchConfig = SearchConfig()
    finetune: FinetuneConfig = FinetuneConfig()

    @field_validator("dataset", mode="before")
    @classmethod
    def _dataset_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _names(self) -> JobConfig:
        for place, entry in (
            *((f"zoo.{name}", entry) for name, entry in self.zoo.items()),
            *((f"finetune.plain.{name}", entry) for name, entry in self.finetune.plain.items()),
        ):
            if entry.source is not None:
                self._check_source(place, entry)
        plain, variants = self.finetune.plain, self.finetune.variants
        winners = [f"reassembly {place}" for place in range(1, self.finetune.winners + 1)]
        tuned = [*winners, "random recipe", *self.zoo, *plain]
        taken = {
            **dict.fromkeys(self.zoo, "a model of the zoo"),
            **dict.fromkeys([*winners, "random recipe"], "what the search finds"),
        }
        _check_free("finetune.plain", plain, taken)
        taken |= dict.fromkeys(plain, "a plain model")
        _check_free("finetune.variants", variants, taken)
        for name in [n for n in (*self.zoo, *plain, *variants) if "@" in n]:
            raise ValueError(f"the name '{name}' holds an @, which marks models of changed winners")
        for name, entry in plain.items():
            if (entry.weights or "").startswith("pretrained_on:"):
                raise ValueError(
                    f"finetune.plain.{name}.weights: '{entry.weights}' is for models of the zoo; "
                    "give a file, a hub, or null"
                )
        for name, change in variants.items():
            place = f"finetune.variants.{name}"
            _require(f"{place}.of", change.of, tuned, "network is fine-tuned under this name")
            for model in change.models:
                allowed = [*self.zoo, *plain]
                _require(f"{place}.models", model, allowed, "model of the zoo has this name")
        return self

    def _check_source(self, place: str, entry: ZooEntry) -> None:
        if entry.weights is not None:
            raise ValueError(
                f"{place}.source is for models without weights, but weights is '{entry.weights}': "
                "leave one of them out"
            )
        allowed = [name for name, other in self.zoo.items() if other.weights is not None]
        _require(
            f"{place}.source",
            str(entry.source),
            allowed,
            "model of the zoo has weights and this name",
        )

    def to_yaml(self) -> str:
        """Return the configuration as YAML with every default filled in."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, width=100)
