"""The YAML of a run as one validated model (``docs/design.md``, "A run file").

Every default is filled in here and nowhere else; :meth:`JobConfig.to_yaml` writes the whole
configuration back, so that a run directory says exactly what made it.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from zoo_search.engine import PATIENCE
from zoo_search.errors import UserError, nearest

__all__ = [
    "BudgetConfig",
    "DatasetConfig",
    "FinetuneConfig",
    "JobConfig",
    "PartitionConfig",
    "SearchConfig",
    "SimilarityConfig",
    "ZooEntry",
    "load_job",
]

Metric = Literal["cka", "cka_biased", "rbf_cka", "lr"]
Protocol = Literal["frozen", "full"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ZooEntry(_Section):
    """One model of the zoo: an architecture and where its weights come from."""

    arch: str
    """A timm name, or ``module:package.mod:factory``."""
    kwargs: dict[str, Any] = {}
    weights: str | None = "timm"
    """``timm``, ``hf-hub:ORG/NAME``, ``package:NAME/FILE``, ``pretrained_on:DATASET``, a path or
    URI, or null: then DPIAT fills the weights from the most similar model of the zoo."""
    key_order: bool = False
    """Match tensors in order when names differ and every shape agrees."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic"] | None = None
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = None
    license: str | None = None


class DatasetConfig(_Section):
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


class SimilarityConfig(_Section):
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


class PartitionConfig(_Section):
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


class BudgetConfig(_Section):
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


class SearchConfig(_Section):
    """DeRy section 3.3 and "Implementation details": candidates and their training-free scores."""

    trials: Annotated[int, Field(ge=1)] = 500
    sampler: Literal["random", "tpe", "nsga2", "cpsat"] = "tpe"
    storage: str | None = None
    """Optuna storage of the study, such as ``sqlite:///study.db``; default: a journal file in the
    run directory."""
    proxies: Annotated[tuple[str, ...], Field(min_length=1)] = ("naswot",)
    """The first one ranks the candidates; ``docs/benchmarks.md`` says which one to trust."""
    init: Literal["least_squares", "random", "dpiat"] = "least_squares"
    fit_images: Annotated[int, Field(ge=8)] = 256
    """Target images that the least-squares stitches are fitted on."""
    batches: Annotated[int, Field(ge=1)] = 5
    batch_size: Annotated[int, Field(ge=2)] = 32
    workers: Annotated[int, Field(ge=1)] | None = None
    """Ray actors; default: one a CPU, or one a GPU where there are GPUs."""


class FinetuneConfig(_Section):
    """DeRy section 4: FROZEN-TUNING (stitches and head) and FULL-TUNING (everything)."""

    winners: Annotated[int, Field(ge=1)] = 3
    protocol: Annotated[tuple[Protocol, ...], Field(min_length=1)] = ("frozen", "full")
    recipe: Literal["few-shot", "timm"] = "few-shot"
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs of each protocol; default: the recipe's."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    lr: Annotated[float, Field(gt=0)] | None = None
    baselines: tuple[Literal["best_single", "random"], ...] = ("best_single", "random")


class JobConfig(_Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: int = 0
    input_size: Annotated[int, Field(ge=8)] | None = None
    """Every model is traced at this size; default: each model's own."""
    patience: Annotated[float, Field(gt=0, allow_inf_nan=False)] = PATIENCE
    """Seconds that a step waits for a cluster that makes no progress at all."""
    zoo: Annotated[dict[str, ZooEntry], Field(min_length=1)]
    dataset: DatasetConfig
    similarity: SimilarityConfig = SimilarityConfig()
    partition: PartitionConfig = PartitionConfig()
    budget: BudgetConfig = BudgetConfig()
    search: SearchConfig = SearchConfig()
    finetune: FinetuneConfig = FinetuneConfig()

    @field_validator("dataset", mode="before")
    @classmethod
    def _dataset_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def to_yaml(self) -> str:
        """Return the configuration as YAML with every default filled in."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, width=100)


def load_job(source: str | Path | Mapping[str, Any] | JobConfig) -> JobConfig:
    """Read and validate a run file (a path), or validate a mapping of the same form.

    Raises:
        UserError: If the file is missing, is no YAML, or breaks a rule: the message names the
            place in the file, what is allowed, and the nearest known key for an unknown one.
    """
    if isinstance(source, JobConfig):
        return source
    if isinstance(source, Mapping):
        return _validate(dict(source), "the run configuration", None)
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"The run file {path} cannot be read ({reason}). Give the path of a "
            "YAML file; jobs/digits.yaml is an example."
        ) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        raise UserError(
            f"{path}{line} is not valid YAML: {getattr(error, 'problem', error)}. "
            "Mind the indentation and the colons."
        ) from None
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no mapping; a run file starts with keys such as 'name:'.")
    return _validate(data, str(path), node)


def _validate(data: dict[str, Any], name: str, node: yaml.Node | None) -> JobConfig:
    try:
        return JobConfig.model_validate(data)
    except ValidationError as error:
        raise UserError(
            " ".join(_explain(name, node, item) for item in error.errors()[:5])
        ) from None


def _explain(name: str, node: yaml.Node | None, item: Any) -> str:
    loc = tuple(part for part in item["loc"] if part != "function-before")
    place = ".".join(str(part) for part in loc)
    line = _line_of(node, loc)
    where = f"{name}, line {line}" if line else name
    if item["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        section = f"'{'.'.join(map(str, loc[:-1]))}'" if len(loc) > 1 else "the top level"
        return (
            f"{where}: unknown key '{loc[-1]}' in {section}.{nearest(str(loc[-1]), known)} "
            f"Allowed there: {', '.join(known)}."
        )
    if item["type"] == "missing":
        return f"{where}: '{place}' is missing. Add it."
    message = str(item["msg"]).removeprefix("Value error, ")
    given = item.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{where}: '{place}': {message[:1].lower()}{message[1:]}{shown}."


def _known_keys(loc: tuple[Any, ...]) -> list[str]:
    """Return the keys allowed in the section at ``loc``, walking the models' annotations."""
    model: type[BaseModel] = JobConfig
    for part in loc:
        field = model.model_fields.get(str(part))
        section = _section_of(field.annotation) if field is not None else None
        model = section or model  # a name in a mapping of sections may equal any key
    return list(model.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section class inside an annotation such as ``dict[str, ZooEntry]``."""
    for inner in (annotation, *reversed(typing.get_args(annotation))):
        if inspect.isclass(inner) and issubclass(inner, BaseModel):
            return inner
    return None


def _line_of(node: yaml.Node | None, loc: tuple[Any, ...]) -> int | None:
    """Return the 1-based line of the key at ``loc``, or of its nearest enclosing section."""
    line = None
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    break
            else:
                return line
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
