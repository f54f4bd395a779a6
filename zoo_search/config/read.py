"""From a run file to a configuration, or to a paragraph that says what is wrong and where."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from zoo_search.config.sections import JobConfig
from zoo_search.errors import UserError, nearest

__all__ = ["load_job"]


def load_job(source: str | Path | Mapping[str, Any] | JobConfig) -> JobConfig:
    """Read and validate a run file (a path), or validate a mapping of the same form.

    Raises:
        UserError: If the file is missing, is no YAML, or breaks a rule: the message names the
            place in the file, what is allowed, and the nearest known key for an unknown one.
    """
    if isinstance(source, JobConfig):
        return source
    if isinstance(source, Mapping):
        return _validate(dict(source), "the run configuration", None)
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"The run file {path} cannot be read ({reason}). Give the path of a "
            "YAML file; jobs/digits.yaml is an example."
        ) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        raise UserError(
            f"{path}{line} is not valid YAML: {getattr(error, 'problem', error)}. "
            "Mind the indentation and the colons."
        ) from None
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no mapping; a run file starts with keys such as 'name:'.")
    return _validate(data, str(path), node)


def _validate(data: dict[str, Any], name: str, node: yaml.Node | None) -> JobConfig:
    try:
        return JobConfig.model_validate(data)
    except ValidationError as error:
        errors = error.errors()
        found = [item for item in errors if not _follows(item, errors)]
        raise UserError(" ".join(_explain(name, node, item) for item in found[:5])) from None


def _follows(item: Any, errors: Sequence[Any]) -> bool:
    """Return whether a list is too short only because of what is wrong inside it."""
    place = item["loc"]
    inside = (e for e in errors if e is not item and e["loc"][: len(place)] == place)
    return item["type"] == "too_short" and any(inside)


def _explain(name: str, node: yaml.Node | None, item: Any) -> str:
    loc = tuple(part for part in item["loc"] if part != "function-before")
    place = ".".join(str(part) for part in loc)
    line = _line_of(node, loc)
    where = f"{name}, line {line}" if line else name
    if item["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        section = f"'{'.'.join(map(str, loc[:-1]))}'" if len(loc) > 1 else "the top level"
        return (
            f"{where}: unknown key '{loc[-1]}' in {section}.{nearest(str(loc[-1]), known)} "
            f"Allowed there: {', '.join(known)}."
        )
    if item["type"] == "missing":
        return f"{where}: '{place}' is missing. Add it."
    message = str(item["msg"]).removeprefix("Value error, ")
    given = item.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    if not place:  # a rule between sections names the place itself
        return f"{where}: {message}."
    return f"{where}: '{place}': {message[:1].lower()}{message[1:]}{shown}."


def _known_keys(loc: tuple[Any, ...]) -> list[str]:
    """Return the keys allowed in the section at ``loc``, walking the models' annotations."""
    model: type[BaseModel] = JobConfig
    for part in loc:
        field = model.model_fields.get(str(part))
        section = _section_of(field.annotation) if field is not None else None
        model = section or model  # a name in a mapping of sections may equal any key
    return list(model.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section class inside an annotation such as ``dict[str, ZooEntry]``."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    for inner in reversed(typing.get_args(annotation)):
        found = _section_of(inner)
        if found is not None:
            return found
    return None


def _line_of(node: yaml.Node | None, loc: tuple[Any, ...]) -> int | None:
    """Return the 1-based line of the key at ``loc``, or of its nearest enclosing section."""
    line = None
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    break
            else:
                return line
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
