"""Names and texts that YAML takes for something else: ``on`` for true, ``1.10`` for a number."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import yaml

from zoo_search.core.errors import UserError
from zoo_search.core.yaml_text import scalar_of

_OPEN = ("kwargs", "options")  # below these are names of others, which may be numbers


def check_names(data: Mapping[str, object], name: str, node: yaml.Node | None) -> None:
    """Raise if a key of a run file is no text.

    Args:
        data: What the file holds.
        name: What a message calls the file.
        node: The file as it was read, whose keys know their lines; None for a mapping of Python's.

    Raises:
        UserError: Says what YAML made of the key, and how to write it.
    """
    _check(data, name, node, ())


def _check(
    data: Mapping[object, object] | Mapping[str, object],
    name: str,
    node: yaml.Node | None,
    place: tuple[str, ...],
) -> None:
    for key, value in data.items():
        found, inside = _pair(node, key)
        if not isinstance(key, str):
            written = found.value if found is not None else str(key)
            line = f", line {found.start_mark.line + 1}" if found is not None else ""
            section = f"'{'.'.join(place)}'" if place else "the top level"
            raise UserError(
                f"{name}{line}: a key in {section} is written {written}, which YAML reads as "
                f'{kind_of(key)}, and not as a name. Quote it: "{written}".'
            )
        if isinstance(value, Mapping):
            below = dict.fromkeys(value) if key in _OPEN else value
            _check(below, name, inside, (*place, key))
        elif isinstance(value, list | tuple):
            items = inside.value if isinstance(inside, yaml.SequenceNode) else [None] * len(value)
            for number, (item, at) in enumerate(zip(value, items, strict=True)):
                if isinstance(item, Mapping):
                    _check(item, name, at, (*place, key, str(number)))


def kind_of(value: object) -> str:
    """Return what YAML took a text without quotes for, in words."""
    if value is None:
        return "nothing at all (null)"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, datetime.date):
        return f"the date {value}"
    return f"the number {value}" if isinstance(value, int | float) else f"{value!r}"


def written_at(node: yaml.Node | None, loc: tuple[int | str, ...]) -> str | None:
    """Return how the plain value at a place of a file is written there; None if none is."""
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            node = _pair(node, part)[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part] if part < len(node.value) else None
    return str(node.value) if isinstance(node, yaml.ScalarNode) else None


def _pair(node: yaml.Node | None, key: object) -> tuple[yaml.Node | None, yaml.Node | None]:
    """Return the nodes of a key and of its value in a mapping; None for each that is not there."""
    if isinstance(node, yaml.MappingNode):
        for written, value in node.value:
            if isinstance(written, yaml.ScalarNode) and written.value == key:
                return written, value
            if isinstance(written, yaml.ScalarNode) and not isinstance(key, str):
                read = scalar_of(written)
                if type(read) is type(key) and read == key:
                    return written, value
    return None, None
