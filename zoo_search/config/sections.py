"""The sections of a run file, with every default.

Defaults are filled in here and nowhere else; :meth:`JobConfig.to_yaml` writes the whole
configuration back, so that a run directory says exactly what made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from zoo_search.config.entries import HookConfig, Hooks, PlainEntry, VariantConfig, ZooEntry
from zoo_search.config.section import LATE, UNHASHED, Renamed, Section
from zoo_search.core.errors import nearest
from zoo_search.core.timeout import TIMEOUT

Protocol = Literal["frozen", "full"]


def _by_name(value: object) -> object:
    """Let the name of a data set stand for the whole section."""
    return {"name": value} if isinstance(value, str) else value


Workers = Annotated[Annotated[int, Field(ge=1)] | None, UNHASHED]


class DatasetConfig(Section):
    """Labelled images and how they are split: the target, or those that similarities are made on.

    In a run file the name alone will do.
    """

    name: str
    """``digits``, ``mnist5k``, ``folder``, ``parquet``, ``webdataset``, ``torchvision:NAME``,
    ``hf:NAME``, a registered name, or ``module:package.mod:function``."""
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

    dataset: Annotated[DatasetConfig | None, BeforeValidator(_by_name), LATE] = None
    """Images that the table is made on; default: the target. DeRy section 4 makes it once, on
    ImageNet. ``fraction`` and ``limit`` count for these images, then."""
    table: Annotated[str | None, LATE] = None
    """Path or URI of a table that is there already: all models of the zoo, with the same cuts.
    Nothing is computed then, and the other settings of this section count for nothing."""
    metric: str = "cka"
    """``cka``, ``cka_biased``, ``rbf_cka``, ``lr``, a registered name, or
    ``module:package.mod:function``."""
    batch_size: Annotated[int, Field(ge=4)] = 256
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Share of the training images (DeRy section 4: 1/20)."""
    limit: Annotated[int, Field(ge=4)] | None = None
    """Training images at most."""
    pool: Literal["avg", "none"] = "avg"
    prefix: Literal["mean", "cls"] = "mean"
    """What stands for tokens where there are prefix tokens: the grid's, or the first prefix one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the forward pass; Gram matrices are made in fp32."""
    gram_dtype: Literal["float16", "float32"] = "float16"
    """Precision in which Gram matrices are stored."""
    compile: Annotated[bool, UNHASHED] = False
    """Compile each block of a model with ``torch.compile`` before it runs."""
    window_mb: Annotated[int, Field(ge=1), UNHASHED] = 256
    """Decoded images in the object store at once, in 10^6 bytes; at least one batch."""
    workers: Workers = None
    """Ray actors; default: one a CPU, or one a GPU where there are GPUs."""

    @model_validator(mode="after")
    def _one_source(self) -> SimilarityConfig:
        if self.table is not None and self.dataset is not None:
            raise ValueError(
                "table is a table that was made already, and dataset the images to make one on: "
                "leave one of them out"
            )
        return self


def _numbers_of_blocks(given: object) -> object:
    """Return one number of blocks, or several in order and each once; one of a list is itself."""
    numbers = given if isinstance(given, list | tuple) else [given]
    if not numbers or any(type(k) is not int or k < 1 for k in numbers):
        raise PydanticCustomError(
            "numbers_of_blocks",
            "should be the number of blocks of each model, a whole number from 1 up, or a list of "
            "such numbers, as in [2, 4]",
        )
    found = tuple(sorted(set(numbers)))
    return found[0] if len(found) == 1 else found


class PartitionConfig(Section):
    """DeRy Eqs. 2-7; defaults of section 4, and ``one_per_set``."""

    k: Annotated[int | tuple[int, ...], BeforeValidator(_numbers_of_blocks)] = 4
    """Blocks a model, and sets; or several such numbers: then the models are cut for each of them,
    and recipes of all are searched. The paper's is 4."""
    eps: Annotated[float, Field(ge=0)] = 0.2
    size: Literal["nodes", "params", "macs"] = "nodes"
    method: Literal["exact", "kl", "random"] = "exact"
    restarts: Annotated[int, Field(ge=1)] = 200
    one_per_set: bool = True
    """The blocks of a model lie in K different sets, so that every model can stand in at every
    stage: DeRy's own code gives blocks of different stages the similarity 0, which makes its sets
    the stages, as section 4.1 observes. False: Eqs. 3-5 alone, where they may share a set."""
    shift: Annotated[int, Field(ge=0), LATE] = 0
    """Nodes by which the ends of a block may move, so that a joint may lie at another cut."""
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False), LATE] = 0.1
    """How much less similar to the anchor of its set a block with moved ends may be, in S of
    Eq. 2: a sum of two similarities."""
    certify: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """Seconds to spend on a tight upper bound; 0: a fixed number of steps, about a second."""
    workers: Workers = None
    """Ray actors; default: one a CPU."""

    @property
    def ks(self) -> tuple[int, ...]:
        """The numbers of blocks, smallest first."""
        return (self.k,) if isinstance(self.k, int) else self.k


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
    sampler: str = "tpe"
    """``random`` (the paper's, section 3.3), ``tpe``, ``nsga2``, ``cpsat``, a registered name, or
    ``module:package.mod:function``."""
    storage: Annotated[str | None, UNHASHED] = None
    """Optuna storage of the study, such as ``sqlite:///study.db``; default: a journal file in the
    run directory."""
    proxies: Annotated[tuple[str, ...], Field(min_length=1)] = ("naswot",)
    """The first one ranks the candidates; ``docs/benchmarks.md`` says which one to trust."""
    fit_images: Annotated[int, Field(ge=8)] = 256
    """Target images that the least-squares stitches are fitted on."""
    batches: Annotated[int, Field(ge=1)] = 5
    batch_size: Annotated[int, Field(ge=2)] = 32
    prefixes: Annotated[bool, LATE] = False
    """Recipes may end after any stage, not only after the last, and the first blocks of each zoo
    model are scored as the zoo models are. The paper's have one block for each stage."""
    workers: Workers = None
    """Ray actors; default: one a CPU, or one a GPU where there are GPUs."""
    hours: Annotated[Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, UNHASHED, LATE] = (
        None
    )
    """Wall clock of a run, from its start to its winners. The race of the fine-tuning goes on with
    more candidates, rates and decays until it is over; its first round is run whole in any case."""


Augment = Literal["none", "light", "rand_augment"]


class ScheduleConfig(Section):
    """A schedule by name, and what of it is overruled; null stands for what the schedule says.

    In a run file the name alone will do.
    """

    name: Literal["few-shot", "dery-short", "dery-full", "timm"] = "few-shot"
    """``few-shot`` for some tens of images a class, ``dery-short`` and ``dery-full`` as in DeRy
    section 4 (100 and 300 epochs, batch 1,024), ``timm`` as dery-short with batch 128."""
    lr_frozen: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    lr_full: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    block_lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    epochs_frozen: Annotated[int, Field(ge=1)] | None = None
    epochs_full: Annotated[int, Field(ge=1)] | None = None
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    weight_decay_full: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    warmup: Annotated[float, Field(ge=0, lt=1)] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = None
    augment: Augment | None = None
    augment_frozen: Augment | None = None
    """In FROZEN-TUNING; with ``none`` the features before the first stitch are computed once."""
    flip: Annotated[float, Field(ge=0, le=1)] | None = None
    mixup: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    cutmix: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    erase: Annotated[float, Field(ge=0, le=1)] | None = None
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    step_limit: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    step_limit_full: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    renew: bool | None = None
    """Before FULL-TUNING statistics of batch norms, stitches and head are made anew."""
    beta2: Annotated[float, Field(ge=0, lt=1)] | None = None
    orthogonal: bool | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None

    def overruled(self) -> dict[str, object]:
        """Return the values that differ from the schedule's."""
        return {k: v for k, v in self if k != "name" and v is not None}

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        return {"name": self.name, **self.overruled()} if self.overruled() else self.name


Range = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]


class FinetuneConfig(Section):
    """DeRy section 4: FROZEN-TUNING (stitches and head) and FULL-TUNING (everything)."""

    winners: Annotated[int, Field(ge=1)] = 3
    """Reassemblies that are trained to the end, and as many single models and random recipes."""
    candidates: Annotated[int, Field(ge=1), LATE] = 16
    """Reassemblies that the race starts with, the best by the first proxy; with them all zoo models
    within the budget and as many random recipes as winners. Half of each are left behind again and
    again, by the validation images, until there are as many as winners."""
    tries: Annotated[int, Field(ge=1), LATE] = 3
    """Trainings to the end of each network that the race leaves: the schedule's learning rate and
    weight decay, and others, which Optuna proposes."""
    least_difference: Annotated[float, Field(ge=0, le=1), LATE] = 0.25
    """Two reassemblies differ in two blocks, or in this share of their multiply-adds; 0: in any."""
    protocol: Annotated[tuple[Protocol, ...], Field(min_length=1)] = ("frozen", "full")
    """With both, FULL-TUNING goes on from where FROZEN-TUNING ended, which is a choice of ours; the
    paper's section 4 has two protocols apart: ``[frozen]`` and ``[full]``."""
    schedule: Annotated[ScheduleConfig, Renamed("recipe")] = ScheduleConfig()
    """How long and how fast: a name, or a name and what of it is overruled."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs of each protocol; default: the schedule's."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Images a step, of all workers together; default: the schedule's."""
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    workers: Annotated[Annotated[int, Field(ge=1)] | Range | None, UNHASHED, LATE] = None
    """Processes that train one network together, or the least and the most of them on a cluster
    that grows and shrinks; default: one, or as many as there are GPUs for each network."""
    gpus_per_worker: Annotated[float, Field(gt=0, le=1), UNHASHED, LATE] = 1.0
    """Where there are GPUs; below 1, so many networks share one."""
    precision: Annotated[Literal["auto", "fp32", "bf16"], LATE] = "auto"
    """Of the forward pass; auto: bf16 on GPUs that compute in it."""
    accumulate: Annotated[int, Field(ge=1), LATE] = 1
    """Parts in which a worker's share of a step goes through the network; the batch of a step stays
    what it is. Doubled where a device has no room."""
    sync_bn: Annotated[bool, LATE] = False
    """Statistics of batch norms over all workers of a network; needs GPUs."""
    compile: Annotated[bool, UNHASHED, LATE] = False
    """Compile each network with ``torch.compile`` before it is trained."""
    keep_decoded: Annotated[float, Field(ge=0, le=1), UNHASHED, LATE] = 0.3
    """Share of the object store's memory that decoded images may take; what does not fit is read
    and decoded again in each epoch."""
    seeds: Annotated[int, Field(ge=1), LATE] = 3
    """Trainings of each network, each with another seed and other images held out; accuracies are
    means over them, and the verdict knows how far they lie apart."""
    finalists: Annotated[Annotated[int, Field(ge=1)] | None, LATE] = None
    """Reassemblies, and as many single models and random recipes, that are trained with all seeds.
    The others do worse on the validation images of the first, and are trained with that alone.
    Default: one, or, where fewer than 100 validation images say too little, all winners."""
    validation: Annotated[Annotated[float, Field(ge=0, lt=1)] | None, LATE] = None
    """Share of the training images that each training holds out, as one of so many equal parts
    (0.2: one of five). They choose the weights that it ends with, and the winner and the best
    single model: the test images choose nothing. Default: the data set's own validation split
    judges instead, or where it has none a fifth is held out."""
    retrain: Annotated[bool, LATE] = False
    """Train the best reassembly, single model and random recipe again, on all training images."""
    baselines: tuple[Literal["best_single", "random"], ...] = ("best_single", "random")
    plain: dict[str, PlainEntry] = Field(default_factory=dict)
    """Architectures to fine-tune beside the winners ("what if I trained X instead?")."""
    variants: dict[str, VariantConfig] = Field(default_factory=dict)
    """Changed winners, fine-tuned from the weights that the winners ended with."""
    log: Annotated[tuple[Literal["wandb", "mlflow"], ...], UNHASHED, LATE] = ()
    """Services that get the curves beside TensorBoard, whose files are always written."""

    @field_validator("log", mode="before")
    @classmethod
    def _one_log(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("schedule", mode="before")
    @classmethod
    def _schedule_by_name(cls, value: object) -> object:
        if isinstance(value, str):
            return {"name": value}
        if not isinstance(value, Mapping | ScheduleConfig):
            raise ValueError("give a name, or a mapping such as {name: dery-short, mixup: 0.2}")
        return value

    @field_validator("workers", mode="wrap")
    @classmethod
    def _one_number_or_two(cls, value: object, handler: ValidatorFunctionWrapHandler) -> object:
        wrong = "give a whole number from 1 up, or the least and the most, such as [2, 8]"
        try:
            found = handler(value)
        except ValidationError:  # it names each form that a value may have, as if it were a place
            raise ValueError(wrong) from None
        if isinstance(found, tuple) and found[0] > found[1]:
            raise ValueError(f"{list(found)} has its smaller number last: {wrong}")
        return found


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
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False), UNHASHED, Renamed("patience")] = (
        TIMEOUT
    )
    """Seconds that a step waits for a cluster that makes no progress at all."""
    zoo: Annotated[dict[str, ZooEntry], Field(min_length=1)]
    dataset: Annotated[DatasetConfig, BeforeValidator(_by_name)]
    """The target."""
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

    @model_validator(mode="after")
    def _names(self) -> JobConfig:
        for place, entry in (
            *((f"zoo.{name}", entry) for name, entry in self.zoo.items()),
            *((f"finetune.plain.{name}", entry) for name, entry in self.finetune.plain.items()),
        ):
            if entry.source is not None:
                self._check_source(place, entry)
        plain, variants = self.finetune.plain, self.finetune.variants
        count = max(self.finetune.candidates, self.finetune.winners)
        winners = [f"reassembly {place}" for place in range(1, count + 1)]
        randoms = range(2, self.finetune.winners + 1)
        winners += ["random recipe", *(f"random recipe {n}" for n in randoms)]
        tuned = [*winners, *self.zoo, *plain]
        taken = {
            **dict.fromkeys(self.zoo, "a model of the zoo"),
            **dict.fromkeys(winners, "what the search finds"),
        }
        for section, names in (("plain", plain), ("variants", variants)):
            for name in names:
                if name in taken:
                    raise ValueError(
                        f"finetune.{section}.{name}: {taken[name]} has this name; choose another"
                    )
            taken |= dict.fromkeys(plain, "a plain model")
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

    def to_yaml(self, *, first_names: bool = False) -> str:
        """Return the whole configuration as YAML, or as :meth:`identity` names its fields."""
        dumped = self.identity(unhashed=True) if first_names else self.model_dump(mode="json")
        return yaml.safe_dump(dumped, sort_keys=False, width=100)
