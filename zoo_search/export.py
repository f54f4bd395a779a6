"""A reassembled network as a folder that gives the network back without its zoo.

``model.safetensors`` holds the state, ``recipe.yaml`` the recipe, ``config.json`` what is needed
to build the parents' architectures again, ``README.md`` a model card.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo_search import __version__, runtimes
from zoo_search.errors import UserError
from zoo_search.model_card import model_card
from zoo_search.reassembly.assemble import assemble
from zoo_search.reassembly.network import ReassembledNet
from zoo_search.reassembly.recipe import Recipe
from zoo_search.reassembly.stitch import Stitch
from zoo_search.store import whole

if TYPE_CHECKING:
    from zoo_search.linegraph.graph import LineGraph
    from zoo_search.zoo.models import ZooModel
    from zoo_search.zoo.preprocess import Preprocess

__all__ = ["export_all", "export_onnx", "export_torch", "load", "save_folder"]

FORMAT = 1
_CONFIG, _STATE, _RECIPE, _CARD = "config.json", "model.safetensors", "recipe.yaml", "README.md"


def save_folder(
    net: nn.Module,
    folder: str | Path,
    *,
    recipe: Recipe,
    zoo: Mapping[str, ZooModel],
    classes: Sequence[str],
    metadata: Mapping[str, Any],
) -> None:
    """Write a network as a folder; the folder appears whole or not at all.

    Args:
        net: What :func:`zoo_search.assemble` gave for ``recipe``, trained or not.
        folder: Where to; what is there is replaced.
        recipe: The recipe.
        zoo: The parents.
        classes: Names of the classes, in the order of the logits.
        metadata: JSON-like facts for ``config.json`` and the model card: ``name``, ``role``,
            ``params``, ``macs``, ``scores``, ``protocols``, ``dataset``, ``command``.
    """
    from safetensors.torch import save_file

    state = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in net.state_dict().items()
    }
    config = {
        "format": FORMAT,
        "zoo_search": __version__,
        "recipe": recipe.to_dict(),
        "input_size": [3, *zoo[recipe.blocks[0].model].transform.size],
        "classes": list(classes),
        "preprocess": asdict(zoo[recipe.blocks[0].model].transform),
        "parents": {name: _parent_facts(zoo[name]) for name in recipe.models},
        "stitches": _stitch_facts(net),
        "metadata": dict(metadata),
    }
    with whole(Path(folder)) as place:
        place.mkdir()
        save_file(state, place / _STATE, metadata={"format": "pt"})
        (place / _RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")
        text = json.dumps(config, indent=1, allow_nan=False) + "\n"
        (place / _CONFIG).write_text(text, encoding="utf-8")
        (place / _CARD).write_text(model_card(config), encoding="utf-8")


def load(folder: str | Path) -> ReassembledNet:
    """Give a network back from its folder, in eval mode, on the CPU, without its zoo.

    The parents' architectures are built without weights and traced again; ``net.transform`` is the
    preprocessing (``net.transform.image(picture)`` makes an input of one), and ``classes`` in
    ``config.json`` names the logits.

    Args:
        folder: A local folder that :func:`save_folder` wrote.

    Raises:
        UserError: If the folder is none, of a newer format, or does not fit the installed
            versions of its architectures.
    """
    from safetensors.torch import load_file

    place = Path(folder)
    config = _read_config(place)
    recipe = Recipe.from_any(place / _RECIPE)
    parents = {
        name: _parent(name, config["parents"][name], config["preprocess"]) for name in recipe.models
    }
    classes = len(config["classes"])
    with torch.random.fork_rng(devices=[]):
        net = assemble(recipe, parents, init="random", num_classes=classes, copy_blocks=False)
    try:
        net.load_state_dict(load_file(place / _STATE), strict=True)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"The weights in {place / _STATE} do not fit the architectures that are installed "
            f"({reason}). Install the versions that the folder was made with (see its {_CARD}), "
            "or copy the folder again if it is damaged."
        ) from None
    return net.eval()


@dataclass(frozen=True, eq=False)
class _Parent:
    """What :func:`assemble` needs of a model."""

    graph: LineGraph
    transform: Preprocess


def _parent(name: str, facts: Mapping[str, Any], preprocess: Mapping[str, Any]) -> _Parent:
    """Build a parent's architecture without weights and trace it."""
    from zoo_search.config import ZooEntry
    from zoo_search.linegraph import trace
    from zoo_search.zoo.build import build
    from zoo_search.zoo.preprocess import Preprocess

    entry = ZooEntry(arch=facts["arch"], kwargs=facts["kwargs"], weights=None)
    channels, height, width = facts["input_size"]
    module = build(entry, name, height)
    transform = Preprocess(
        size=(preprocess["size"][0], preprocess["size"][1]),
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
        interpolation=preprocess["interpolation"],
        crop_pct=preprocess["crop_pct"],
    )
    return _Parent(trace(module, (channels, height, width), name), transform)


def _parent_facts(model: ZooModel) -> dict[str, Any]:
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


def _stitch_facts(net: nn.Module) -> list[dict[str, Any] | None]:
    """Return the two cuts of each stitch, None where neighbours need none."""
    return [
        {"before": asdict(stitch.before), "after": asdict(stitch.after)}
        if isinstance(stitch, Stitch)
        else None
        for stitch in net.get_submodule("stitches").children()
    ]


def _read_config(place: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((place / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{place} is no exported network: its {_CONFIG} cannot be read ({error}). Give a "
            "folder such as runs/digits/winners/0."
        ) from None
    if config.get("format") != FORMAT:
        raise UserError(
            f"{place} has the format {config.get('format')}, but this zoo-search "
            f"({__version__}) reads format {FORMAT}. Use the version that wrote it: "
            f"{config.get('zoo_search')}."
        )
    return config


def export_all(folder: str | Path, *, onnx: bool = False, torch_export: bool = False) -> list[Path]:
    """Export a winner for other runtimes, into its own folder.

    Args:
        folder: A folder that :func:`save_folder` wrote.
        onnx: Write ``model.onnx``.
        torch_export: Write ``model.pt2``.

    Raises:
        UserError: If nothing is asked for, the folder is none, or a package is missing.
    """
    if not (onnx or torch_export):
        raise UserError("Nothing to export to. Give --onnx, --torch or both.")
    place, net = Path(folder), load(folder)
    written = []
    if onnx:
        export_onnx(net, place / "model.onnx")
        written.append(place / "model.onnx")
    if torch_export:
        export_torch(net, place / "model.pt2")
        written.append(place / "model.pt2")
    return written


def export_onnx(source: nn.Module | str | Path, path: str | Path) -> None:
    """Write a network as ONNX: input ``image`` (normalised ``[B, C, H, W]``), output ``logits``.

    Args:
        source: A reassembled network, or the folder of one.
        path: Where to; written aside first.

    Raises:
        UserError: If the packages of the extra ``export`` are missing.
    """
    runtimes.need_onnx()
    with whole(Path(path)) as place:
        runtimes.write_onnx(_ready(source), place)


def export_torch(source: nn.Module | str | Path, path: str | Path) -> None:
    """Write a network with ``torch.export``, for any batch size.

    Args:
        source: A reassembled network, or the folder of one.
        path: Where to, ending in ``.pt2``; written aside first.
    """
    with whole(Path(path)) as place:
        runtimes.write_torch(_ready(source), place)


def _ready(source: nn.Module | str | Path) -> nn.Module:
    """Return a copy of the network that is to be exported, in eval mode on the CPU."""
    net = copy.deepcopy(source) if isinstance(source, nn.Module) else load(source)
    return net.cpu().eval().requires_grad_(False)
