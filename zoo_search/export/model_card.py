"""The model card of an exported network (``README.md`` in its folder)."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo_search.core.errors import UserError
from zoo_search.hooks.report import HookReport

if TYPE_CHECKING:
    from zoo_search.export.config import FolderConfig, Metadata

_LOADING = """```python
import zoo_search as zs

net = zs.load("path/of/this/folder"TRUST)
logits = net(net.transform.image(picture).unsqueeze(0))  # a PIL image of any size
```"""


def model_card(config: FolderConfig) -> str:
    """Return the card as Markdown; names and licences stand in it as they are (:func:`plain`)."""
    facts, blocks = config["metadata"], config["recipe"]["blocks"]
    between = "; between blocks that are no neighbours of one model stands a stitching layer"
    parts = [
        f"# {plain(facts.get('name', 'A reassembled network'))}",
        _intro(config),
        "## Blocks",
        _table(
            ("model", "from cut", "to cut"),
            [(b["model"], b["start"], b["stop"]) for b in blocks],
        ),
        f"Cut 0 is the image{between if len(blocks) > 1 else ''}.{_head(config)}",
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
        _LOADING.replace("TRUST", ", trust=True" if _names_code(config) else ""),
        f"Images: {_preprocess(config)}. Classes, in the order of the logits: see `config.json`.",
        f"Made with zoo-search {config['zoo_search']}.",
    ]
    return "\n\n".join(parts) + "\n"


def _names_code(config: FolderConfig) -> bool:
    """Say whether only who trusts the folder can load it."""
    from zoo_search.zoo.trust import architecture_of

    try:
        for facts in config["parents"].values():
            architecture_of({**facts}, "", trust=False)
    except UserError:
        return True
    return False


def _intro(config: FolderConfig) -> str:
    facts = config["metadata"]
    size = ""
    if "params" in facts:
        size = f", {facts['params'] / 1e6:.2f} M parameters, {facts['macs'] / 1e6:.1f} M MACs"
    target = f", trained on {plain(facts['dataset'])}" if facts.get("protocols") else ""
    return (
        f"An image classifier with {len(config['classes'])} classes: {_kind(config)}{target}{size}."
    )


def _head(config: FolderConfig) -> str:
    if config["recipe"].get("taps", "last") == "last":
        return ""
    return " The head reads what every block gives, pooled, in the order of the blocks."


def _kind(config: FolderConfig) -> str:
    parents, facts = config["parents"], config["metadata"]
    if facts.get("role") == "variant":
        return f"a changed form of the network '{plain(facts['of'])}'"
    if len(parents) > 1:
        return "reassembled from blocks of several models"
    (parent,) = parents.values()
    return f"the architecture {plain(parent['arch'])}"


def _start(facts: Metadata) -> list[str]:
    lines = [f"- {plain(HookReport.from_dict(report).line)}" for report in facts.get("init", ())]
    if facts.get("of"):
        lines.insert(0, f"- a changed form of the network '{plain(facts['of'])}'")
    return ["## How it started", "\n".join(lines)] if lines else []


def _results(facts: Metadata) -> list[str]:
    parts = []
    told = facts.get("retrained") or facts.get("trainings")
    if told:
        rows = [
            (
                training["seed"],
                f"{name.upper()}-TUNING",
                f"{100 * record['test_accuracy']:.2f} %",
                f"{record['trainable_params']:,}",
                f"{record['seconds']:.1f} s",
            )
            for training in told
            for name, record in training["protocols"].items()
        ]
        header = ("seed", "protocol", "test accuracy", "parameters that learned", "training time")
        parts += ["## Results", _table(header, rows)]
        if len(told) > 1:
            seed = told[facts["exported"]]["seed"]
            parts += [f"The weights here are those of seed {seed}; test images did not choose it."]
    if facts.get("scores"):
        scores = [(name, f"{value:.6g}") for name, value in facts["scores"].items()]
        parts += ["Training-free scores:", _table(("proxy", "score"), scores)]
    if facts.get("command"):
        parts += ["Made by:", _code(facts["command"])]
    return parts


def _preprocess(config: FolderConfig) -> str:
    p = config["preprocess"]
    height, width = p["size"]
    mean, std = (", ".join(f"{v:g}" for v in p[key]) for key in ("mean", "std"))
    deep = p.get("value_range")
    grey = ""
    if deep:
        grey = f"; of grey with more than 8 bits {deep[0]:g} is black, {deep[1]:g} white"
    return (
        f"RGB, {height}x{width}, {p['interpolation']}, centre crop {p['crop_pct']:g}, scaled to "
        f"[0, 1], mean ({mean}), standard deviation ({std}){grey}"
    )


def _table(header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(plain(cell) for cell in line)} |" for line in lines)


_MARKS = re.compile(r"([\\`*\[\]#|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


def plain(value: object) -> str:
    """Return a text that shows as it is in Markdown, on one line, whatever signs it holds."""
    line = " ".join(str(value).split())
    return _MARKS.sub(r"\\\1", html.escape(line, quote=False))


def _code(text: str) -> str:
    """Return a text as a block of code, between more backticks than it holds itself."""
    fence = "`" * max((3, *(len(run) + 1 for run in re.findall("`+", text))))
    return f"{fence}\n{text}\n{fence}"
