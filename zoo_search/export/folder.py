"""A reassembled network as a folder that gives the network back without its zoo.

``model.safetensors`` holds the state, ``recipe.yaml`` the recipe, ``config.json`` what is needed
to build the parents' architectures again, ``README.md`` a model card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo_search.core.errors import UserError, some
from zoo_search.core.files import Place, file_system, is_local, made_at
from zoo_search.core.foreign.copies import fetched
from zoo_search.core.version import __version__
from zoo_search.export.config import (
    CONFIG,
    FORMAT,
    RECIPE,
    STATE,
    FolderConfig,
    Metadata,
    ParentFacts,
    check,
    preprocess_of,
    read_config,
    with_checks,
)
from zoo_search.export.model_card import model_card
from zoo_search.networks.assemble import assemble
from zoo_search.networks.network import ReassembledNet
from zoo_search.networks.parents import Parent
from zoo_search.networks.recipe import Recipe
from zoo_search.networks.stitch import Stitch

if TYPE_CHECKING:
    from zoo_search.data.decode import Range
    from zoo_search.zoo.models import ZooModel

_CARD = "README.md"
FILES = frozenset({STATE, RECIPE, _CARD, CONFIG, "model.onnx", "model.pt2"})
"""Names of ours in such a folder; earlier versions exported into it."""


def save_folder(
    net: nn.Module,
    folder: Place,
    *,
    recipe: Recipe,
    zoo: Mapping[str, ZooModel],
    classes: Sequence[str],
    metadata: Metadata,
    value_range: Range | None = None,
) -> None:
    """Write what :func:`zoo_search.assemble` gave for a recipe, trained or not, as a folder.

    The folder, a path or an fsspec URI, takes the place of an exported network that is there, and
    appears whole or not at all (at a URI file by file: a half is none that can be loaded). The
    classes are in the order of the logits; the metadata are for ``config.json`` and the model card;
    ``value_range`` is that of the data set that it was trained on, a part of its preprocessing.

    Raises:
        UserError: If the folder holds anything else: nothing is removed that is not ours.
    """
    from safetensors.torch import save_file

    from zoo_search.zoo.checkpoint import state_sha256

    state = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in net.state_dict().items()
    }
    first = zoo[recipe.blocks[0].model].transform
    transform = replace(first, value_range=value_range)
    config: FolderConfig = {
        "format": FORMAT,
        "zoo_search": __version__,
        "recipe": recipe.to_dict(),
        "input_size": [3, *transform.size],
        "classes": list(classes),
        "preprocess": transform.to_dict(),
        "parents": {name: _parent_facts(zoo[name]) for name in recipe.models},
        "stitches": [
            {"before": asdict(x.before), "after": asdict(x.after)}
            if isinstance(x, Stitch)
            else None
            for x in net.get_submodule("stitches").children()
        ],
        "metadata": metadata,
    }
    _check_place(folder)
    text = recipe.to_yaml()
    config = with_checks(config, text, state_sha256(state))
    with made_at(folder, FILES) as place:
        place.mkdir()
        save_file(state, place / STATE, metadata={"format": "pt"})
        (place / RECIPE).write_text(text, encoding="utf-8")
        told = json.dumps(config, indent=1, allow_nan=False) + "\n"
        (place / CONFIG).write_text(told, encoding="utf-8")
        (place / _CARD).write_text(model_card(config), encoding="utf-8")


def _check_place(folder: Place) -> None:
    fs, root = file_system(folder)
    folder = root if is_local(folder) else folder
    if fs.exists(root) and not fs.isdir(root):
        raise UserError(f"{folder} is a file. Give the path of a new or empty folder.")
    found = fs.ls(root, detail=False) if fs.exists(root) else []
    there = sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)
    if there and not {CONFIG, STATE} <= set(there):
        raise UserError(
            f"{folder} is no exported network and holds {some(there, ', ', ' and')}. Give the path "
            "of a new or empty folder, or of an exported network that is to be replaced."
        )


def load(folder: Place, *, trust: bool = False) -> ReassembledNet:
    """Give a network back from its folder, in eval mode, on the CPU, without its zoo.

    The folder is a path or an fsspec URI.

    The parents' architectures are built without weights and traced again; ``net.transform`` is the
    preprocessing (``net.transform.image(picture)`` makes an input of one), and ``classes`` in
    ``config.json`` names the logits.

    The folder may be anybody's: it calls no code but timm's, with plain arguments. Only with
    ``trust`` it may name functions of other modules, and any arguments, for its architectures.

    Raises:
        UserError: If the folder is none, of a newer format, or does not fit the installed
            versions of its architectures; if anything in it changed after it was written;
            without ``trust``, if it names code.
    """
    with fetched(folder, (CONFIG, RECIPE, STATE)) as place:
        return _load(place, trust=trust)


def _load(place: Path, *, trust: bool) -> ReassembledNet:
    from zoo_search.zoo.checkpoint import describe_mismatch, read_checkpoint
    from zoo_search.zoo.trust import architecture_of

    config = read_config(place)
    for name in (RECIPE, STATE):
        if not (place / name).is_file():  # a pipe would never end
            raise UserError(
                f"{place} is no whole exported network: it has no file {name}. Copy the folder "
                "again."
            )
    recipe = Recipe.from_any(place / RECIPE)
    unknown = [name for name in recipe.models if name not in config["parents"]]
    if unknown:
        raise UserError(
            f"{place / RECIPE} names the models {some(unknown, ', ', ' and')}, of which {CONFIG} "
            f"says nothing; it tells of {', '.join(config['parents'])}. Copy the folder again."
        )
    architectures = {
        name: architecture_of(
            config["parents"][name], f"{place / CONFIG}, parent '{name}',", trust=trust
        )
        for name in recipe.models
    }
    if not trust:
        _check_size(place, config, architectures)
    state = read_checkpoint(place / STATE, "The weights").get("", {})
    check(place, config, (place / RECIPE).read_text(encoding="utf-8"), state)
    parents = {
        name: _parent(name, config, *architecture) for name, architecture in architectures.items()
    }
    classes = len(config["classes"])
    with torch.random.fork_rng(devices=[]):
        net = assemble(recipe, parents, init="random", num_classes=classes, copy_blocks=False)
    problem = describe_mismatch(net, state)
    if problem is not None:
        raise UserError(
            f"The weights in {place / STATE} do not fit the architectures that are installed "
            f"({problem}). Install the versions that the folder was made with (see its {_CARD}), "
            "or copy the folder again if it is damaged."
        )
    net.load_state_dict(state, strict=True)
    return net.eval()


def _check_size(
    place: Path, config: FolderConfig, architectures: Mapping[str, tuple[str, dict[str, object]]]
) -> None:
    """Refuse parents that take many times more memory than the weights, before they take any.

    Raises:
        UserError: As :meth:`zoo_search.zoo.size.SizeBudget.take`.
    """
    from zoo_search.zoo.size import SizeBudget

    budget = SizeBudget((place / STATE).stat().st_size, f"{place / CONFIG}")
    for name, (arch, kwargs) in architectures.items():
        budget.take(arch, kwargs, f"zoo.{name}", config["parents"][name]["input_size"][1])


def _parent(name: str, config: FolderConfig, arch: str, kwargs: dict[str, object]) -> Parent:
    """Build a parent's architecture without weights and trace it."""
    from zoo_search.linegraph import trace
    from zoo_search.zoo.build import build

    channels, height, width = config["parents"][name]["input_size"]
    module = build(arch, kwargs, f"zoo.{name}", height)
    return Parent(trace(module, (channels, height, width), name), preprocess_of(config))


def _parent_facts(model: ZooModel) -> ParentFacts:
    """Return what builds a parent's architecture again, and where its weights came from."""
    kwargs = dict(model.spec.kwargs)
    classes = getattr(model.module, "num_classes", None)
    if isinstance(classes, int) and not model.spec.arch.startswith("module:"):
        kwargs["num_classes"] = classes
    return {
        "arch": model.spec.arch,
        "kwargs": kwargs,
        "input_size": list(model.graph.input_size),
        "family": model.family,
        "license": model.license,
        "weights": model.source,
        "weights_sha256": model.weights_hash,
    }
