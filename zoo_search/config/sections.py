"""The sections of a run file, with every default.

Defaults are filled in here and nowhere else; :meth:`JobConfig.to_yaml` writes the whole
configuration back, so that a run directory says exactly what made it.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from zoo_search.config.entries import HookConfig, Hooks, ZooEntry
from zoo_search.config.finetuning import FinetuneConfig
from zoo_search.config.paths import PathOrUri, Storage
from zoo_search.config.section import LATE, UNHASHED, AsList, Renamed, Section
from zoo_search.core.errors import nearest
from zoo_search.core.redaction import redacted_values
from zoo_search.core.timeout import TIMEOUT


def _by_name(value: object) -> object:
    """Let the name of a data set stand for the whole section."""
    return {"name": value} if isinstance(value, str) else value


Workers = Annotated[Annotated[int, Field(ge=1)] | None, UNHASHED]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What every library takes that draws from one; numpy and Optuna refuse others."""


_Word = Annotated[str, Field(min_length=1)] | None


class SplitsConfig(Section):
    """What the splits of a source are called: folders, values of its column, words in its paths."""

    train: _Word = None
    validation: _Word = None
    """Chooses; only beside a test."""
    test: _Word = None
    """Is only told."""
    drawn: bool = False
    """Nothing is a split: train and test are drawn from all images."""

    @model_validator(mode="after")
    def _whole(self) -> SplitsConfig:
        if self.drawn != (not self.named()):
            raise ValueError("give the names of the splits, or the word drawn where there are none")
        if not self.drawn and None in (self.train, self.test):
            missing = "train" if self.train is None else "test"
            raise ValueError(
                f"{missing} is missing: train and test are needed, validation may stand beside. "
                "What is only one held-out split is the test"
            )
        if len(set(self.named().values())) < len(self.named()):
            raise ValueError("two splits have the same name; each needs images of its own")
        return self

    def named(self) -> dict[Literal["train", "validation", "test"], str]:
        """Return the name of each split that has one."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: name for split, name in found.items() if name}  # type: ignore[misc]


def _drawn(value: object) -> object:
    """Let the word stand for the section."""
    return {"drawn": True} if value == "drawn" else value


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if not -math.inf < value[0] < value[1] < math.inf:
        raise PydanticCustomError(
            "value_range", "should be the value of black and a larger one of white, as [0, 4095]"
        )
    return value


class DatasetConfig(Section):
    """Labelled images and how they are split: the target, or those that similarities are made on.

    In a run file the name alone will do.
    """

    name: str
    """``digits``, ``mnist5k``, ``folder``, ``parquet``, ``webdataset``, ``torchvision:NAME``,
    ``hf:NAME``, a registered name, or ``module:package.mod:function``."""
    path: PathOrUri | None = None
    """Where the images are."""
    per_class: Annotated[int, Field(ge=1)] | None = None
    """Labelled training images a class; the rest is held out for the test."""
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    splits: Annotated[SplitsConfig | None, BeforeValidator(_drawn), LATE] = None
    """Which folder, value of a column, or word in the paths is which split:
    ``{train: Lern, validation: Pruef, test: Test}``; ``drawn``: none is one, so that train and test
    are drawn. Default: by their usual names, in any case."""
    seed: Seed | None = None
    """Default: the seed of the run."""
    dedupe: Annotated[bool, LATE] = False
    """Leave images out of the test, and of the validation, that are byte by byte among those that
    are trained on; out of the test also those of the validation."""
    value_range: Annotated[Annotated[tuple[float, float], AfterValidator(_rising)] | None, LATE] = (
        None
    )
    """Stored values that are black and white in grey images of more than 8 bits: ``[0, 4095]`` for
    12 bits in a 16-bit file. Default: the full range of 16 bits."""
    max_bad: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of files that may fail to decode; they are counted, named and skipped."""
    max_pixels: Annotated[int, Field(ge=1, le=178_956_970), LATE] = 100_000_000
    """An image with more pixels counts as one that fails to decode; the highest that may stand here
    is where PIL itself refuses."""


class SimilarityConfig(Section):
    """DeRy section 3.2, Definition 3: how alike two cuts are."""

    dataset: Annotated[DatasetConfig | None, BeforeValidator(_by_name), LATE] = None
    """Images that the table is made on; default: the target. DeRy section 4 makes it once, on
    ImageNet. ``fraction`` and ``limit`` count for these images, then."""
    table: Annotated[PathOrUri | None, LATE] = None
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
    eps: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.2
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
    min_params: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    min_macs: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Milliseconds for a batch, measured on this device block by block and added up."""
    max_memory: Annotated[float, Field(gt=0)] | None = None
    """Peak activation memory for one image in fp32, in bytes."""
    licenses: Annotated[tuple[str, ...] | None, AsList] = None
    """Licences that blocks may come under, such as ``apache-2.0``; a model whose licence is not
    known is left out where there is a list."""
    latency_batch: Annotated[int, Field(ge=1)] = 1
    """Images of the batch that latency is measured with."""
    latency_threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of that measurement; default: as many as torch takes."""
    measure: Annotated[tuple[Literal["latency", "memory"], ...], AsList] = ()
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
    storage: Annotated[Storage | None, UNHASHED] = None
    """Optuna storage of the study, such as ``sqlite:///study.db``; default: a journal file in the
    run directory."""
    proxies: Annotated[tuple[str, ...], Field(min_length=1), AsList] = ("probe",)
    """The first one ranks the candidates; the paper's is ``naswot`` (section 3.3), which chose
    worse on both targets of ``docs/benchmarks.md``."""
    fit_images: Annotated[int, Field(ge=8)] = 256
    """Target images that the least-squares stitches are fitted on."""
    batches: Annotated[int, Field(ge=1)] = 5
    batch_size: Annotated[int, Field(ge=2)] = 32
    prefixes: Annotated[bool, LATE] = False
    """Recipes may end after any stage, not only after the last, and the first blocks of each zoo
    model are scored as the zoo models are. The paper's have one block for each stage."""
    head: Annotated[Literal["last", "blocks"], LATE] = "last"
    """What new heads read: the last block, or every block. So do those of zoo models, whose blocks
    are the partition's; the paper's read the last one."""
    workers: Workers = None
    """Ray actors; default: one a CPU, or one a GPU where there are GPUs."""
    hours: Annotated[Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, UNHASHED, LATE] = (
        None
    )
    """Wall clock of a run, from its start to its winners. The race of the fine-tuning goes on with
    more candidates, rates and decays until it is over; its first round is run whole in any case."""


def _require(place: str, word: str, allowed: list[str], what: str) -> None:
    if word not in allowed:
        raise ValueError(
            f"{place}: no {what}: '{word}'.{nearest(word, allowed)} "
            f"Allowed: {', '.join(allowed) or 'none'}"
        )


LONGEST_NAME = 100


def problem_of_name(name: str) -> str | None:
    """Return what is wrong with the name of a network, which folders and lines are called by."""
    if not name or name != name.strip():
        return "is empty, or begins or ends with a blank"
    if name.startswith("."):
        return "begins with a dot"
    if "@" in name:
        return "holds an @, which marks models of changed winners"
    if "/" in name or "\\" in name:
        return "holds a slash"
    if not name.isprintable():
        return "holds a line break or another sign that cannot be printed"
    if len(name) > LONGEST_NAME:
        return f"has {len(name)} signs"
    return None


class JobConfig(Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Seed = 0
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
        for name in (*self.zoo, *plain, *variants):
            problem = problem_of_name(name)
            if problem:
                raise ValueError(
                    f"the name {name!r} {problem}. Allowed: 1 to {LONGEST_NAME} letters, digits, "
                    "blanks inside and signs, but none of / \\ @, and no dot at its start"
                )
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

    def to_yaml(self, *, first_names: bool = False, secrets: bool = True) -> str:
        """Return the whole configuration as YAML, or as :meth:`identity` names its fields.

        Without ``secrets``, keys and signatures in addresses are hidden
        (:func:`~zoo_search.core.redaction.redacted`), as in what others may read.
        """
        dumped = self.identity(unhashed=True) if first_names else self.model_dump(mode="json")
        if not secrets:
            dumped = redacted_values(dumped)
        return yaml.safe_dump(dumped, sort_keys=False, width=100)
