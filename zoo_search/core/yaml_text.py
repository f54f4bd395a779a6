"""YAML that people bring: read without code, and never larger than it looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import yaml

from zoo_search.core.errors import UserError

_MERGE = "tag:yaml.org,2002:merge"  # of the key <<
_MOST = 100_000  # values, with every alias written out


def read_yaml(text: str, name: str) -> tuple[yaml.Node | None, object]:
    """Return what a text of YAML holds, as nodes that know their lines and as plain values.

    Args:
        text: One document.
        name: What a message calls it.

    Raises:
        UserError: If it is no YAML, holds itself by an alias, is nested too deep, writes out to
            more than 100,000 values by aliases of aliases, or gives a key of a mapping twice, of
            which YAML's readers keep the last without a word.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and _values_in(node, {}, name) > _MOST:
            raise UserError(
                f"{name} writes out to more than {_MOST:,} values by aliases (*name) of aliases. "
                "Write it without them."
            )
        if node is not None:
            _refuse_twins(node, set(), name)
        return node, yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        raise UserError(
            f"{name}{line} is not valid YAML: {getattr(error, 'problem', None) or error}. "
            "Mind the indentation and the colons."
        ) from None
    except RecursionError:
        raise UserError(
            f"{name} is nested too deep to be what it should be. Write it anew."
        ) from None
    except (ValueError, OverflowError) as error:  # such as a date that there is not
        raise UserError(f"{name} holds a value that is none: {error}. Put it in quotes.") from None


def texts(value: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of nested mappings and lists, with its place (``docker.run_options.0``)."""
    if isinstance(value, str):
        yield place, value
        return
    inner: Iterable[tuple[object, object]] = ()
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, Sequence):
        inner = enumerate(value)
    for key, each in inner:
        yield from texts(each, f"{place}.{key}" if place else str(key))


def _values_in(node: yaml.Node, known: dict[int, int | None], name: str) -> int:
    """Return how many values a node writes out to; ``known`` holds None while one is counted."""
    if id(node) in known:
        count = known[id(node)]
        if count is None:
            raise UserError(
                f"{name}, line {node.start_mark.line + 1} holds itself by an alias (*name), so it "
                "has no end. Write out what is meant."
            )
        return count
    known[id(node)] = None
    inside: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        inside = [each for pair in node.value for each in pair]
    elif isinstance(node, yaml.SequenceNode):
        inside = node.value
    count = known[id(node)] = 1 + sum(_values_in(each, known, name) for each in inside)
    return count


def scalar_of(node: yaml.Node) -> object:
    """Return the value that YAML takes a text without quotes for, such as True for ``on``."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _refuse_twins(node: yaml.Node, known: set[int], name: str) -> None:
    """Raise if a mapping at or below a node gives one key twice."""
    if id(node) in known:
        return
    known.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _refuse_twins(each, known, name)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[object, yaml.Node] = {}
    for key, value in node.value:
        _refuse_twins(value, known, name)
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        read = scalar_of(key)
        if read in seen:
            first = seen[read]
            both = f"'{first.value}'"
            if first.value != key.value:
                both += f" and '{key.value}', which YAML reads as one value, {read!r}"
            raise UserError(
                f"{name}, line {key.start_mark.line + 1}: the key {both} is in this mapping "
                f"already, in line {first.start_mark.line + 1}, and one of the two would be lost. "
                "Give one of them another name, or leave it out."
            )
        seen[read] = key
