"""The section ``finetune`` of a run file: how networks race, and how they are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from zoo_search.config.entries import PlainEntry, VariantConfig
from zoo_search.config.section import LATE, UNHASHED, AsList, Renamed, Section

Protocol = Literal["frozen", "full"]
Baseline = Literal["best_single", "random"]
Augment = Literal["none", "light", "rand_augment"]
Weights = dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]
"""Weight of a class, by its name."""


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
    brackets: Annotated[int, Field(ge=1), LATE] = 1
    """Parts in which the candidates begin: each after the race of the one before, every second
    network by what that has shown. Of each part as many come to the end as there are winners."""
    tries: Annotated[int, Field(ge=1), LATE] = 3
    """Trainings to the end of each network that the race leaves: the schedule's learning rate and
    weight decay, and others, which Optuna proposes."""
    least_difference: Annotated[float, Field(ge=0, le=1), LATE] = 0.25
    """Two reassemblies differ in two blocks, or in this share of their multiply-adds; 0: in any."""
    protocol: Annotated[tuple[Protocol, ...], Field(min_length=1), AsList] = ("frozen", "full")
    """With both, FULL-TUNING goes on from where FROZEN-TUNING ended, which is a choice of ours; the
    paper's section 4 has two protocols apart: ``[frozen]`` and ``[full]``."""
    schedule: Annotated[ScheduleConfig, Renamed("recipe")] = ScheduleConfig()
    """How long and how fast: a name, or a name and what of it is overruled."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs of each protocol; default: the schedule's."""
    batch_size: Annotated[int, Field(ge=2)] | None = None
    """Images a step, of all workers together; default: the schedule's. Batch norms need two."""
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
    metric: Annotated[Literal["accuracy", "balanced_accuracy", "macro_f1"], LATE] = "accuracy"
    """What validation chooses by: weights, who goes on in the race, finalists, winner. Balanced
    accuracy (mean recall) and macro F1 count all classes alike, however many images they have."""
    class_weights: Annotated[Literal["none", "balanced"] | Weights, LATE] = "none"
    """What an image counts in the loss and in the fit of new heads, by its class: ``balanced``, as
    much as makes all classes count alike; or a weight for classes by name, the others having 1."""
    retrain: Annotated[bool, LATE] = False
    """Train the best reassembly, single model and random recipe again, on all training images."""
    baselines: Annotated[tuple[Baseline, ...], AsList] = ("best_single", "random")
    plain: dict[str, PlainEntry] = Field(default_factory=dict)
    """Architectures to fine-tune beside the winners ("what if I trained X instead?")."""
    variants: dict[str, VariantConfig] = Field(default_factory=dict)
    """Changed winners, fine-tuned from the weights that the winners ended with."""
    log: Annotated[tuple[Literal["wandb", "mlflow"], ...], AsList, UNHASHED, LATE] = ()
    """Services that get the curves beside TensorBoard, whose files are always written."""

    @model_validator(mode="after")
    def _brackets_hold_winners(self) -> FinetuneConfig:
        most = max(1, self.candidates // self.winners)
        if self.brackets > most:
            raise ValueError(
                f"{self.candidates} candidates in {self.brackets} brackets are fewer than the "
                f"{self.winners} winners in some of them: give at most {most} brackets, or more "
                "candidates"
            )
        return self

    @model_validator(mode="after")
    def _parts_hold_two_images(self) -> FinetuneConfig:
        if self.batch_size is not None and self.batch_size < 2 * self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} in accumulate {self.accumulate} parts leaves some "
                "with a single image, which batch norms have no statistics of: give at most "
                f"{self.batch_size // 2} parts, or a larger batch"
            )
        return self

    @field_validator("schedule", mode="before")
    @classmethod
    def _schedule_by_name(cls, value: object) -> object:
        if isinstance(value, str):
            return {"name": value}
        if not isinstance(value, Mapping | ScheduleConfig):
            raise ValueError("give a name, or a mapping such as {name: dery-short, mixup: 0.2}")
        return value

    @field_validator("class_weights", mode="wrap")
    @classmethod
    def _weights_by_name(cls, value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler("none" if value is None else value)
        except ValidationError:  # it names each form that a value may have, as if it were a place
            raise ValueError(
                "give none, balanced, or a weight above 0 for classes by name, such as {cat: 2.5}"
            ) from None

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
