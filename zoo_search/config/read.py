"""From a run file to a configuration, or to a paragraph that says what is wrong and where."""

from __future__ import annotations

import inspect
import typing
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from zoo_search.config.changes import OPTION, changed
from zoo_search.config.paths import Folders
from zoo_search.config.quoting import check_names, kind_of, written_at
from zoo_search.config.section import Section
from zoo_search.config.sections import JobConfig
from zoo_search.core.errors import Note, UserError, clipped, nearest
from zoo_search.core.files import expanded
from zoo_search.core.redaction import HIDDEN, is_redacted
from zoo_search.core.yaml_text import read_yaml

if typing.TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from zoo_search.core.store import RunStore

JobSource = str | Path | Mapping[str, object] | JobConfig
"""A run file by its path, a mapping of the same form, or a validated configuration."""

_Loc = Sequence[int | str]
_OF_TEXT = ("string_type", "literal_error")  # pydantic's errors where a text is wanted


def load_job(source: JobSource, changes: Sequence[str] = ()) -> JobConfig:
    """Read and validate a run file (a path), or validate a mapping of the same form.

    ``changes`` are laid over it (:func:`~zoo_search.config.changes.changed`). Paths are made
    absolute: relative ones count from the folder of the run file, in changes and in a mapping from
    the working directory. What is not beside the file, but in the working directory, is taken from
    there, with a :class:`~zoo_search.core.errors.Note`.

    A key that has another name today is read under its old one, with a
    :class:`~zoo_search.core.errors.Note` that says the new one.

    Raises:
        UserError: If the file is missing, is no YAML, or breaks a rule: the message names the
            place in the file, what is allowed, and the nearest known key for an unknown one.
    """
    if isinstance(source, JobConfig) and not changes:
        return source
    if isinstance(source, JobConfig):
        source = source.model_dump(mode="json")
    if isinstance(source, Mapping):
        folders = Folders("the run configuration")
        return _validate(dict(source), folders.name, None, changes, folders)
    path = Path(expanded(str(source)))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"The run file {path} cannot be read ({reason}). Give the path of a "
            "YAML file; jobs/digits.yaml is an example."
        ) from None
    if is_redacted(text):
        raise UserError(
            f"{path} holds an address whose key or signature was hidden ({HIDDEN}), as in the "
            "job.yaml of a run directory, which others may read. Give the run file that the run "
            "was started with."
        )
    folders = Folders(str(path), path.absolute().parent)
    job = _read(text, str(path), changes, folders)
    for note in folders.notes:
        warnings.warn(note, Note, stacklevel=2)
    return job


def read_job(store: RunStore) -> JobConfig:
    """Return the configuration that a run directory keeps, in ``job.yaml``, without its secrets.

    Keys that an earlier version wrote under other names are read without a word.

    Raises:
        UserError: If there is none, or it is damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        try:
            text = store.read_text("job.yaml")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{store.path('job.yaml')} cannot be read ({error}). Run the command that made the "
                "directory again: it writes the file anew."
            ) from None
        return _read(text, store.path("job.yaml"))


def _read(
    text: str, path: str, changes: Sequence[str] = (), folders: Folders | None = None
) -> JobConfig:
    node, data = read_yaml(text, path)
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no mapping; a run file starts with keys such as 'name:'.")
    return _validate(data, path, node, changes, folders)


def _validate(
    data: Mapping[str, object],
    name: str,
    node: yaml.Node | None,
    changes: Sequence[str] = (),
    folders: Folders | None = None,
) -> JobConfig:
    if folders is not None:
        folders.notes.clear()  # of values that changes have taken the place of
    check_names(data, name, node)
    try:
        today = _with_new_names(data, JobConfig, node, name)
        job = JobConfig.model_validate(today, context=folders)
        # What is wrong with the file is told with its line, before what is wrong with a change.
        return _validate(changed(today, changes), OPTION, None, (), folders) if changes else job
    except ValidationError as error:
        errors = error.errors()
        found = [item for item in errors if not _follows(item, errors)]
        raise UserError(" ".join(_explain(name, node, item) for item in found[:5])) from None


def _with_new_names(
    data: Mapping[str, object],
    section: type[Section],
    node: yaml.Node | None,
    name: str,
    place: tuple[str, ...] = (),
) -> dict[str, object]:
    """Return a section of a run file under the names of today, and say which are old.

    In ``node``, which is the whole file as it was read, keys are renamed, too, so that later
    messages find their line.
    """
    today = {old: new for new, old in section.renamed().items()}
    found = {}
    for key, value in data.items():
        new = today.get(key, key)
        if new != key:
            before, after = ".".join((*place, key)), ".".join((*place, new))
            where = _where(name, node, (*place, key))
            if new in data:
                raise UserError(
                    f"{where}: '{before}' is the old name of '{after}', and both are given. Leave "
                    f"out '{before}'."
                )
            told = f"{where}: '{before}' is called '{after}' now. The old name is still read."
            warnings.warn(told, Note, stacklevel=2)
            at = _node_at(node, (*place, key))
            if at is not None and at.value == key:
                at.value = new
        inner = section.model_fields[new].annotation if new in section.model_fields else None
        if isinstance(value, Mapping) and inspect.isclass(inner) and issubclass(inner, Section):
            value = _with_new_names(value, inner, node, name, (*place, new))
        found[new] = value
    return found


def _where(name: str, node: yaml.Node | None, loc: _Loc) -> str:
    found = _node_at(node, loc)
    return name if found is None else f"{name}, line {found.start_mark.line + 1}"


def _follows(item: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """Return whether a list is too short only because of what is wrong inside it."""
    place = item["loc"]
    inside = (e for e in errors if e is not item and e["loc"][: len(place)] == place)
    return item["type"] == "too_short" and any(inside)


def _explain(name: str, node: yaml.Node | None, item: ErrorDetails) -> str:
    loc = tuple(part for part in item["loc"] if part != "function-before")
    place = ".".join(map(clipped, loc))
    where = _where(name, node, loc)
    if item["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        section = f"'{'.'.join(map(clipped, loc[:-1]))}'" if len(loc) > 1 else "the top level"
        return (
            f"{where}: unknown key '{clipped(loc[-1])}' in {section}."
            f"{nearest(str(loc[-1]), known)} Allowed there: {', '.join(known)}."
        )
    if item["type"] == "missing":
        return f"{where}: '{place}' is missing. Add it."
    message = str(item["msg"]).removeprefix("Value error, ")
    given = item.get("input")
    plain = isinstance(given, str | int | float | bool)
    shown = f" (given: {clipped(repr(given))})" if plain else ""
    if item["type"] in _OF_TEXT and not isinstance(given, str):
        written = written_at(node, loc)
        if written is not None:
            return (
                f"{where}: '{place}' should be text, and YAML reads {clipped(written)} as "
                f'{kind_of(given)}. If this is what you mean, quote it: "{clipped(written)}".'
            )
    if not place:  # a rule between sections names the place itself
        return f"{where}: {message}."
    return f"{where}: '{place}': {message[:1].lower()}{message[1:]}{shown}."


def _known_keys(loc: _Loc) -> list[str]:
    """Return the keys allowed in the section at ``loc``, walking the models' annotations."""
    model: type[Section] = JobConfig
    for part in loc:
        field = model.model_fields.get(str(part))
        section = _section_of(field.annotation) if field is not None else None
        model = section or model  # a name in a mapping of sections may equal any key
    return list(model.model_fields)


def _section_of(annotation: object) -> type[Section] | None:
    """Return the section class inside an annotation such as ``dict[str, ZooEntry]``."""
    if inspect.isclass(annotation) and issubclass(annotation, Section):
        return annotation
    for inner in reversed(typing.get_args(annotation)):
        found = _section_of(inner)
        if found is not None:
            return found
    return None


def _node_at(node: yaml.Node | None, loc: _Loc) -> yaml.Node | None:
    """Return the key at ``loc``, or that of its nearest enclosing section."""
    found = None
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            inside = {key.value: (key, value) for key, value in node.value}
            if str(part) not in inside:
                return found
            found, node = inside[str(part)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                return found
            found = node = node.value[part]
    return found
