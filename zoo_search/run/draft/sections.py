"""The sections of a drafted run file, each with what a first-time user asks of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from zoo_search.config import JobConfig
from zoo_search.core.errors import some
from zoo_search.core.tables import in_units
from zoo_search.core.version import __version__
from zoo_search.run.draft.hardware import Hardware
from zoo_search.run.draft.images import Folder
from zoo_search.run.draft.models import SIZES, Model
from zoo_search.run.draft.plan import Work, first_fold
from zoo_search.run.draft.text import block, comment, comments, entry, inline, short

_SHOWN = 12  # classes that are counted one by one


def sections(
    said: Mapping[str, Any],
    job: JobConfig,
    images: Folder,
    models: Sequence[Model],
    later: Sequence[Model],
    machine: Hardware,
    work: Work,
    notes: Sequence[str],
    file: str,
) -> str:
    """Return the text of the run file that holds ``said``, with comments."""
    parts = [
        comment(
            f"A run file, drafted by zoo-search {__version__} (zoo-search init). Everything behind "
            "a # is a comment. Each value can be changed; what is left out has a default."
        )
        + "\n#\n"
        + "\n".join((
            comment(f"zoo-search rank {file}: which of the models suits your images as it is"),
            comment(f"zoo-search run {file}: the whole search, which ends with a report"),
        )),
    ]  # fmt: skip
    if notes:
        parts.append(f"{comment('Look at this first:')}\n{comments(notes)}")
    parts += [
        "\n".join((
            entry("name", said["name"]),
            comment("Results go to runs/NAME. The seed makes chance repeatable."),
            entry("seed", said["seed"]),
        )),
        "\n".join(_input_size(said, images)),
        "\n".join(_zoo(models, later, said["input_size"], machine)),
        "\n".join(_dataset(said, job, images)),
        "\n".join(_budget(said, models)),
        "\n".join(_search(said, job, models, work)),
        "\n".join(_finetune(said, job, machine, work)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _input_size(said: Mapping[str, Any], images: Folder) -> Iterator[str]:
    sides, size = images.seen.sides.min(axis=1), said["input_size"]
    low, middle, high = (int(np.percentile(sides, q)) for q in (10, 50, 90))
    kinds = ", ".join(f"{n} {kind}" for kind, n in images.seen.kinds.items())
    spread = (
        f"{middle} pixels in the middle, {low} to {high} in most" if low < high else f"{low} pixels"
    )
    yield comment(
        "Height and width, in pixels, of what the models see; images are scaled and cropped to it. "
        f"{len(sides)} images were looked at ({kinds}): their shorter side has {spread}. "
        f"{_why_size(middle, size)} Multiply-adds grow with its square. It is a multiple of 32, "
        "which all of these models take. Models see three channels: grey is given three times."
    )
    yield entry("input_size", size)


def _why_size(middle: int, size: int) -> str:
    if size == SIZES[-1]:
        return "The models were trained at 224, and more costs more without new knowledge."
    if middle <= size:
        return f"{size} is the next size that holds them; more would only enlarge them."
    more = (SIZES[-1] / size) ** 2
    return (
        f"There is no GPU here, so it is {size}; {SIZES[-1]}, at which the models were trained, "
        f"shows more detail for {more:.1f} times the multiply-adds."
    )


def _zoo(
    models: Sequence[Model], later: Sequence[Model], size: int, machine: Hardware
) -> Iterator[str]:
    gpus = ", ".join(f"{name} with {memory / 1e9:.0f} GB" for name, memory in machine.gpus)
    mixed = (
        "" if later else " They are of different families, so that there is something to combine."
    )
    yield comment(
        f"The pre-trained models that blocks are taken from, by names of timm.{mixed} Their sizes "
        f"suit this machine ({machine.cores} CPU core{'s' if machine.cores > 1 else ''}, "
        f"{machine.memory / 1e9:.0f} GB of memory, {gpus or 'no GPU'}). Above each: its parameters "
        "in M (10^6), and its multiply-adds (MACs) for one image in G (10^9), at "
        f"{size} pixels and with a head for your classes."
    )
    yield "zoo:"
    for model in models:
        yield comment(f"{_cost(model)}: {model.why}", 2)
        if len(model.entry) < 3:
            yield entry(model.name, dict(model.entry), 2)
        else:
            yield block(model.name, model.entry, 2)
    for model in later:
        yield comment(f"{_cost(model)}: {model.why}. Its weights need the network:", 2)
        yield f"  # {inline(model.name)}: {inline(dict(model.entry))}"


def _cost(model: Model) -> str:
    return f"{in_units(model.cost.params, 1e6)} M, {in_units(model.cost.macs, 1e9)} G"


def _dataset(said: Mapping[str, Any], job: JobConfig, images: Folder) -> Iterator[str]:
    told, fold = images.told, first_fold(images.dataset, job)
    train = told.counts["train"]
    counted = sorted(zip(told.classes, train, strict=True), key=lambda pair: -pair[1])
    if len(counted) > _SHOWN:
        most = some([f"{name} {n}" for name, n in counted], ", ")
        least = ", ".join(f"{name} {n}" for name, n in counted[-3:])
        classes = f"{most} (the largest); {least} (the smallest)"
    else:
        classes = ", ".join(f"{name} {n}" for name, n in counted)
    yield comment(
        f"Your images: {len(told.classes)} classes. {sum(train)} images are for the training: "
        f"{classes}."
    )
    test = images.count("test")
    drawn = f"a fifth of each class, {test} images, is drawn for it, by the seed"
    whose = f"its {test} images are those of the folder's own split"
    yield comment(
        "The test is told in the report and chooses nothing; "
        f"{whose if images.has_own_test else drawn}."
    )
    if fold.validation is None:
        judges = "There are too few images to hold any out: nothing chooses between networks."
    elif "validation" in told.counts:
        judges = f"Its {len(fold.validation)} validation images choose the weights and the winner."
    else:
        judges = (
            f"The validation chooses the weights and the winner: {len(fold.validation)} of the "
            f"training images, a fifth, are held out in a training, others with each further seed, "
            f"and {len(fold.train)} are learned from."
        )
    yield comment(judges)
    if "://" not in said["dataset"]["path"]:
        yield comment("A relative path counts from the folder of this file.")
    yield block("dataset", said["dataset"])


def _budget(said: Mapping[str, Any], models: Sequence[Model]) -> Iterator[str]:
    limits = said["budget"]

    def fits(model: Model) -> bool:
        cost = model.cost
        return bool(cost.params <= limits["max_params"] and cost.macs <= limits["max_macs"])

    within = [f"{model.name} ({_cost(model)})" for model in models if fits(model)]
    beyond = [f"{model.name} ({_cost(model)})" for model in models if not fits(model)]
    yield comment(
        "What a network may cost: parameters, which make its size on disk (4 bytes each), and "
        "multiply-adds for one image, which make it slow. Set it to what your device can bear. "
        f"Through as they are: {some(within, ', ', ' and')}."
    )
    if beyond:
        yield comment(
            f"Too large as they are: {some(beyond, ', ', ' and')}. Blocks of them can still be "
            "parts of networks that keep to the budget."
        )
    yield "budget:"
    units = {"max_params": (1e6, "M"), "max_macs": (1e9, "G")}
    for key, value in limits.items():
        unit, sign = units[key]
        yield f"  {key}: {short(value)}   # {in_units(value, unit)} {sign}"


def _search(
    said: Mapping[str, Any], job: JobConfig, models: Sequence[Model], work: Work
) -> Iterator[str]:
    yield comment(
        "Every model is cut into k blocks of nearly equal length: each less than 1 + eps times as "
        f"long as the mean. How alike the models are at each place is measured on {work.similar} "
        f"images, each once through all {len(models)}."
    )
    if "similarity" in said:
        yield block("similarity", said["similarity"])
    yield block("partition", said["partition"])
    yield comment(
        f"Then {job.search.trials} networks put together from these blocks are scored without "
        f"training, each on {work.scored} of your images. More trials find better ones, up to a "
        "point; 500 is the default."
    )
    if "search" in said:
        yield block("search", said["search"])


def _finetune(
    said: Mapping[str, Any], job: JobConfig, machine: Hardware, work: Work
) -> Iterator[str]:
    config = job.finetune
    less = "" if machine.gpus else " These are fewer than the defaults, since there is no GPU here."
    yield comment(
        f"Then the best {config.candidates} of them race against the single models and random "
        f"ones: half are left behind again and again, until {config.winners} of each kind are "
        f"trained to the end.{less} In all that is at most {work.steps:,} steps of training, which "
        f"see {work.trained:,} images (each counted as often as it is seen)."
    )
    mirrored = "schedule: {name: few-shot, flip: 0.5}"
    why = "Photographs may be mirrored, digits and letters may not. For photographs:"
    if "finetune" not in said:
        yield comment(f"{why} finetune: {{{mirrored}}}")
        return
    yield block("finetune", said["finetune"])
    if "schedule" in said["finetune"]:
        yield comment(f"{why.rstrip('.:')}, add flip: 0.5 to the schedule.", 2)
    else:
        yield f"{comment(why, 2)}\n  # {mirrored}"
