"""The model card of an exported network (``README.md`` in its folder)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["model_card"]

_LOADING = """```python
import zoo_search as zs

net = zs.load("path/of/this/folder")
logits = net(net.transform.image(picture).unsqueeze(0))  # a PIL image of any size
```"""


def model_card(config: Mapping[str, Any]) -> str:
    """Return the card as Markdown.

    Args:
        config: What ``config.json`` holds (:func:`zoo_search.export.save_folder`).
    """
    facts = config["metadata"]
    parts = [
        f"# {facts.get('name', 'A reassembled network')}",
        _intro(config),
        "## Blocks",
        _table(
            ("model", "from cut", "to cut"),
            [(b["model"], b["start"], b["stop"]) for b in config["recipe"]["blocks"]],
        ),
        _cuts(config["recipe"]["blocks"]),
        "## Parents",
        _table(
            ("name", "architecture", "weights", "licence"),
            [
                (name, p["arch"], p["weights"], p["license"] or "unknown: look it up")
                for name, p in config["parents"].items()
            ],
        ),
        "Keep to the licences of all parents, and of the networks that a parent's weights came "
        "from (column 'weights').",
        *_start(facts),
        *_results(facts),
        "## How to load",
        _LOADING,
        f"Images: {_preprocess(config)}. Classes, in the order of the logits: see `config.json`.",
        f"Made with zoo-search {config['zoo_search']}.",
    ]
    return "\n\n".join(parts) + "\n"


def _intro(config: Mapping[str, Any]) -> str:
    facts = config["metadata"]
    size = ""
    if "params" in facts:
        size = f", {facts['params'] / 1e6:.2f} M parameters, {facts['macs'] / 1e6:.1f} M MACs"
    target = f", trained on {facts['dataset']}" if facts.get("protocols") else ""
    return (
        f"An image classifier with {len(config['classes'])} classes: {_kind(config)}{target}{size}."
    )


def _kind(config: Mapping[str, Any]) -> str:
    parents, facts = config["parents"], config["metadata"]
    if facts.get("role") == "variant":
        return f"a changed form of the network '{facts['of']}'"
    if len(parents) > 1:
        return "reassembled from blocks of several models"
    (parent,) = parents.values()
    return f"the architecture {parent['arch']}"


def _cuts(blocks: Sequence[Mapping[str, Any]]) -> str:
    words = "Cut 0 is the image"
    if len(blocks) > 1:
        words += "; between blocks that are no neighbours of one model stands a stitching layer"
    return f"{words}."


def _start(facts: Mapping[str, Any]) -> list[str]:
    from zoo_search.hooks import HookReport

    lines = [f"- {HookReport(**report).line}" for report in facts.get("init", ())]
    if facts.get("of"):
        lines.insert(0, f"- a changed form of the network '{facts['of']}'")
    return ["## How it started", "\n".join(lines)] if lines else []


def _results(facts: Mapping[str, Any]) -> list[str]:
    parts = []
    if facts.get("protocols"):
        rows = [
            (
                f"{name.upper()}-TUNING",
                f"{100 * record['test_accuracy']:.2f} %",
                f"{record['trainable_params']:,}",
                f"{record['seconds']:.1f} s",
            )
            for name, record in facts["protocols"].items()
        ]
        header = ("protocol", "test accuracy", "parameters that learned", "training time")
        parts += ["## Results", _table(header, rows)]
    if facts.get("scores"):
        scores = [(name, f"{value:.6g}") for name, value in facts["scores"].items()]
        parts += ["Training-free scores:", _table(("proxy", "score"), scores)]
    if facts.get("command"):
        parts += ["Made by:", f"```\n{facts['command']}\n```"]
    return parts


def _preprocess(config: Mapping[str, Any]) -> str:
    p = config["preprocess"]
    height, width = p["size"]
    mean, std = (", ".join(f"{v:g}" for v in p[key]) for key in ("mean", "std"))
    return (
        f"RGB, {height}x{width}, {p['interpolation']}, centre crop {p['crop_pct']:g}, scaled to "
        f"[0, 1], mean ({mean}), standard deviation ({std})"
    )


def _table(header: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
